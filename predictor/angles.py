"""Exact angles of formats on mini-batches."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from formats.pairs import Candidate, candidate
from numeric_formats.progress import Report, quiet
from predictor.attention import other_question
from predictor.columns import (
    ALL,
    ANGLE,
    BIAS,
    BIAS_HIGH,
    BIAS_LOW,
    EFFECT,
    FAILURES,
    FIRST,
    FORMAT,
    HIGH,
    LENGTH_RATIO,
    LOSS_RISE,
    LOW,
    PROJECTION,
    SCOPE,
    N,
)
from predictor.effects import MEASURED_EFFECTS, Points, effects_at
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import MEASURE, Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import DEFAULT_MINIBATCHES, Measurement, check_minibatches
from predictor.out_of_range import lost_out_of_range
from predictor.scheme import Scheme, rules_at
from predictor.statistics import Bias, angle_interval, bias
from workloads.workload import Workload

OF_ANGLE = (FORMAT, EFFECT, SCOPE, ANGLE, LOW, HIGH)
OF_LENGTH = (PROJECTION, LENGTH_RATIO, BIAS, BIAS_LOW, BIAS_HIGH, LOSS_RISE)
COLUMNS = (*OF_ANGLE, *OF_LENGTH, N, FAILURES)
COVERAGE = "coverage"
"""Where a table of angles says what the points cover."""
NOTES = "notes"
"""Where it says what else is to be known of formats, a list of sentences."""
EACH = "layers"
"""The scope that stands for every parameter by itself."""


def measure(
    workload: Workload,
    candidates: Sequence[str | Candidate],
    effects: Iterable[str] | None = None,
    minibatches: int | None = None,
    *,
    points: Points | str = Points.DATAFLOW,
    batch_size: int | None = None,
    scopes: Sequence[str] = (ALL,),
    exact: Sequence[str] = (),
    scheme: Scheme | str | None = None,
    two_terms: bool = True,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Report = quiet,
) -> pd.DataFrame:
    """Angles in degrees between quantized and full-precision weight gradients, never training.

    Args:
        workload: the network, its loss and its mini-batches.
        candidates: formats, pairs, or their names.
        effects: of E, A, AE, E|A (what errors add where activations are rounded anyhow), and, asked for by name, W
            (weights rounded as the format itself says) and WAE; by default the first four. At operands of E (dy), A
            (x), AE, W and WAE, all six, which is the default.
        minibatches: how many; by default 8, or all where there are fewer.
        points: where formats are rounded: in data flow, or at the operands of the products of layers with weights, as
            a recipe of that format does (docs/definitions/prediction.md section 1).
        batch_size: examples of a mini-batch, by default the workload's.
        scopes: "all" (one angle over the whole network's gradient), "first" (the first layer's), or names of
            parameters; ["layers"] for each of them.
        exact: layers kept in full precision.
        scheme: by which activations and errors are rounded in data flow: `paper` (the default), `current`, `authors`,
            or a `Scheme`.
        two_terms: whether inputs and last errors are rounded in two terms.
        store: where exact measurements are found and kept; by default none is.
        executor: what measures, by default this process.
        progress: hears of every format on a mini-batch that is measured.

    Returns:
        One row per format, effect and scope: format, effect, scope, angle, low, high (95% t-interval), projection
        (<g_q, g> / |g|^2) and length_ratio (|g_q| / |g|), bias with bias_low and bias_high
        (`predictor.statistics.Bias`; of scope "all" alone), loss (the mean of what rounding adds to it), n
        (mini-batches), failures (zero or non-finite gradients, counted as 90 degrees). Its `attrs["coverage"]` says
        how much of the network is rounded and measured, `attrs["notes"]` which standards lose numbers to their constant
        scale.

    Raises:
        ValueError: an argument is out of range, or the workload cannot be measured.
    """
    chosen = [candidate(given) for given in candidates]
    if not chosen:
        raise ValueError("no format was given")
    at, rules = rules_at(points, scheme, two_terms)
    wanted = effects_at(at, effects, MEASURED_EFFECTS)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    measuring = Measuring(workload, exact, rules, store, executor or InProcess(), progress, points=at)
    found, done, total = [], 0, len(batches) * len(chosen)
    measuring.report(MEASURE, done, total)
    for measurement in measuring.measured(chosen, batches, wanted):
        found.append(measurement)
        if measurement.effect is wanted[-1]:
            done += 1
            measuring.report(MEASURE, done, total)
    # What the store has comes first, and the last bit of a mean depends on the order.
    found.sort(key=lambda measurement: measurement.minibatch)
    parameters = found[0].parameters
    if list(scopes) == [EACH]:
        scopes = parameters
    for scope in scopes:
        if scope not in (ALL, FIRST, *parameters):
            allowed = f"{ALL}, {FIRST}, {EACH}, or one of {', '.join(parameters)}"
            raise ValueError(f"scope {scope!r}: allowed are {allowed}")
    rows = []
    for index, format in enumerate(chosen):
        for effect in wanted:
            mine = [m for m in found if m.format == index and m.effect is effect]
            for scope in scopes:
                of_angle = angle_interval(np.array([m.angle(scope) for m in mine]))
                failures = sum(m.failed(scope) for m in mine)
                rows.append(
                    (format.name, effect.value, scope, *of_angle, *_of_length(mine, scope), len(mine), failures)
                )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs[NOTES] = [*lost_out_of_range(measuring, chosen, batches[0]), *other_question(workload.model, at)]
    if measuring.checked is not None:
        table.attrs[COVERAGE] = measuring.checked.sentence
    return table


def _of_length(mine: Sequence[Measurement], scope: str) -> tuple[float, ...]:
    """The columns OF_LENGTH of one format, effect and scope."""
    lengths = (np.mean([m.projection(scope) for m in mine]), np.mean([m.length_ratio(scope) for m in mine]))
    nothing = Bias(math.nan, math.nan, math.nan)
    of_bias = bias([m.sketch for m in mine], [m.square for m in mine]) if scope == ALL else nothing
    return (*map(float, lengths), of_bias.value, of_bias.low, of_bias.high, float(np.mean([m.loss for m in mine])))
