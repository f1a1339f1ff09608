"""Exact angles of formats on mini-batches."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from formats.pairs import Candidate, candidate
from predictor.columns import ANGLE, EFFECT, FAILURES, FORMAT, HIGH, LOW, SCOPE, N
from predictor.measuring.units import (
    ALL,
    DEFAULT_EFFECTS,
    DEFAULT_MINIBATCHES,
    FIRST,
    check_effects,
    check_minibatches,
    measurements,
)
from predictor.statistics import angle_interval
from workloads.workload import Workload

COLUMNS = (FORMAT, EFFECT, SCOPE, ANGLE, LOW, HIGH, N, FAILURES)


def measure(
    workload: Workload,
    candidates: Sequence[str | Candidate],
    effects: Iterable[str] = DEFAULT_EFFECTS,
    minibatches: int | None = None,
    *,
    batch_size: int | None = None,
    scopes: Sequence[str] = (ALL,),
    exact: Sequence[str] = (),
    two_terms: bool = True,
) -> pd.DataFrame:
    """Angles in degrees between quantized and full-precision weight gradients, never training.

    candidates: formats, pairs, or their names. effects: of E, A, AE, and, asked for by name, W
    (weights rounded as activations are) and WAE. minibatches: how many; by default 8, or all where there are fewer.
    scopes: "all" (one angle over the whole network's gradient), "first" (the first layer's), or names of parameters;
    ["layers"] for each of them.
    exact: layers kept in full precision. two_terms: whether inputs and last errors are rounded in two terms.

    Returns one row per format, effect and scope: format, effect, scope, angle, low, high (95% t-interval), n
    (mini-batches), failures (zero or non-finite gradients, counted as 90 degrees).
    """
    chosen = [candidate(given) for given in candidates]
    if not chosen:
        raise ValueError("no format was given")
    wanted = check_effects(effects)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    found = list(measurements(workload, chosen, batches, wanted, exact=exact, two_terms=two_terms))
    layers = found[0].layers
    if list(scopes) == ["layers"]:
        scopes = layers
    for scope in scopes:
        if scope not in (ALL, FIRST, *layers):
            raise ValueError(f"scope {scope!r}: allowed are {ALL}, {FIRST}, layers, or one of {', '.join(layers)}")
    rows = []
    for index, format in enumerate(chosen):
        for effect in wanted:
            mine = [m for m in found if m.format == index and m.effect is effect]
            for scope in scopes:
                mean, low, high = angle_interval(np.array([m.angle(scope) for m in mine]))
                failures = sum(m.failed(scope) for m in mine)
                rows.append((format.name, effect.value, scope, mean, low, high, len(mine), failures))
    return pd.DataFrame(rows, columns=list(COLUMNS))
