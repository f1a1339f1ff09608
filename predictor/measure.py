"""Exact angles of formats on mini-batches."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from predictor.angle import degrees, failed, layer_sums
from predictor.gradient import Candidate, Effect, Gradients, candidate
from workloads.workload import Workload

ALL, FIRST = "all", "first"
"""Scopes: the whole network's gradient, and that of the first parameter in the order of execution; others are layers' names."""
DEFAULT_EFFECTS = (Effect.E, Effect.A, Effect.AE)
CONFIDENCE = 0.95
DEFAULT_MINIBATCHES = 8


@dataclass(frozen=True)
class Measurement:
    """One gradient compared with the full-precision one.

    format: index of the candidate. sums: <d,g>, |d|^2, |g|^2 of each layer, (layers, 3). seconds: what it took.
    """

    format: int
    effect: Effect
    minibatch: int
    layers: tuple[str, ...]
    sums: NDArray[np.float64]
    seconds: float

    def angle(self, scope: str = ALL) -> float:
        """Degrees in a scope."""
        return degrees(self._sums(scope))

    def failed(self, scope: str = ALL) -> bool:
        """Whether the quantized gradient is zero or not finite there."""
        return failed(self._sums(scope))

    def _sums(self, scope: str) -> NDArray[np.float64]:
        if scope == ALL:
            return np.asarray(self.sums.sum(0))
        return np.asarray(self.sums[0 if scope == FIRST else self.layers.index(scope)])


@dataclass(frozen=True)
class Unit:
    """What is measured in one go: one candidate on one mini-batch, by their indices, and the effects, in the order E, A, AE."""

    minibatch: int
    format: int
    effects: tuple[Effect, ...]


def check_effects(effects: Iterable[str]) -> tuple[Effect, ...]:
    """Effects from their names, in the order E, A, AE, W, WAE; ValueError for others."""
    wanted = {str(effect).upper() for effect in effects}
    for name in sorted(wanted - set(Effect)):
        raise ValueError(f"effect {name!r}: allowed are {', '.join(Effect)}")
    if not wanted:
        raise ValueError(f"no effect was given; allowed are {', '.join(Effect)}")
    return tuple(effect for effect in Effect if effect in wanted)


def check_minibatches(workload: Workload, minibatches: int | None, batch_size: int | None, default: int | None = None) -> Sequence[object]:
    """The first mini-batches of a workload; ValueError where there are not as many. None: at most `default`, or all."""
    if minibatches is not None and minibatches < 1:
        raise ValueError(f"{minibatches} mini-batches: at least 1 is needed")
    batches = workload.minibatches(batch_size)
    if minibatches is not None and minibatches > len(batches):
        raise ValueError(f"{minibatches} mini-batches were asked for; workload {workload.name} has {len(batches)}")
    return batches[: default if minibatches is None else minibatches]


def measure_unit(gradients: Gradients, unit: Unit, format: Candidate) -> list[Measurement]:
    """The measurements of one unit, one an effect, on the open gradients of its mini-batch; `format` is its candidate."""
    layers, found, began = tuple(gradients.layers), [], time.monotonic()
    for effect, quantized in gradients.quantized(format, unit.effects):
        sums = layer_sums(quantized, gradients.full)
        now = time.monotonic()
        found.append(Measurement(unit.format, effect, unit.minibatch, layers, sums, now - began))
        began = now
    return found


def measure_units(
    workload: Workload,
    candidates: Sequence[Candidate],
    batches: Sequence[object],
    units: Iterable[Unit],
    *,
    exact: Sequence[str] = (),
    two_terms: bool = True,
) -> Iterator[list[Measurement]]:
    """Measure units in their order, unit by unit; neighbours of one mini-batch share its full-precision gradients."""
    for number, of_batch in groupby(units, key=lambda unit: unit.minibatch):
        with Gradients(workload, batches[number], exact=exact, two_terms=two_terms) as gradients:
            for unit in of_batch:
                yield measure_unit(gradients, unit, candidates[unit.format])


def measurements(
    workload: Workload,
    candidates: Sequence[Candidate],
    batches: Sequence[object],
    effects: Sequence[Effect] = DEFAULT_EFFECTS,
    *,
    exact: Sequence[str] = (),
    two_terms: bool = True,
) -> Iterator[Measurement]:
    """Measure every candidate on every mini-batch, mini-batch by mini-batch, so that stopping early leaves common ones."""
    units = (Unit(number, index, tuple(effects)) for number in range(len(batches)) for index in range(len(candidates)))
    for found in measure_units(workload, candidates, batches, units, exact=exact, two_terms=two_terms):
        yield from found


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95% t-interval; the interval is not a number for fewer than two values."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def angle_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95% t-interval of angles, without what no angle can be."""
    mean, low, high = interval(values)
    return mean, max(low, 0.0) if low == low else low, min(high, 180.0) if high == high else high


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
    scopes: "all" (one angle over the whole network's gradient), "first" (the first layer's), or names of parameters; ["layers"] for each of them.
    exact: layers kept in full precision. two_terms: whether inputs and last errors are rounded in two terms.

    Returns one row per format, effect and scope: format, effect, scope, angle, low, high (95% t-interval), n (mini-batches), failures
    (zero or non-finite gradients, counted as 90 degrees).
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
    return pd.DataFrame(rows, columns=["format", "effect", "scope", "angle", "low", "high", "n", "failures"])
