"""Search beyond the catalogue: synthesize the best formats for a network, and measure them beside the best that are
known."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import formats
from formats import Granularity
from formats.families import WIDTHS
from formats.hardware.cost import gates_of
from formats.pairs import Candidate
from numeric_formats.checks import at_least
from predictor.device import device_of
from predictor.effects import DEFAULT_EFFECTS, Effect, check_effects
from predictor.gradients import Gradients
from predictor.measuring.executors import Executor
from predictor.measuring.session import measured
from predictor.measuring.store import Store
from predictor.measuring.units import DEFAULT_MINIBATCHES, Measurement, check_minibatches
from predictor.noise import Kind, Noise, observe
from predictor.statistics import interval, pareto
from predictor.surrogate import KINDS, Observation, fit, places, spread
from search.knapsack import Constraints, ScoreTable, check_bits, synthesize, synthesize_pairs
from search.layers import check_widths, format_per_layer
from search.stages import Progress, Stage
from search.table import Angles, Ranking, tabulate
from workloads.digest import digest, weights_digest
from workloads.workload import Workload

REFERENCE = "FP134"
"""What 8-bit formats are compared with; at other widths that is the best of fixed point and the minifloats."""


ANCHORS = 20
"""How many known formats of the width are measured to find out how much each tensor counts."""


@dataclass(frozen=True)
class Means:
    """How search measures: the workload, which layers stay exact, one or two terms, where measurements are kept and
    made, and who hears of progress."""

    workload: Workload
    exact: Sequence[str] = ()
    two_terms: bool = True
    store: Store | None = None
    executor: Executor | None = None
    progress: Callable[[Progress], None] = lambda _: None

    def measure(
        self,
        stage: Stage,
        candidates: Sequence[Candidate],
        batches: Sequence[object],
        effects: tuple[Effect, ...],
        units: Sequence[tuple[int, int]],
    ) -> Iterator[Measurement]:
        """Exact measurements of (mini-batch, candidate) units."""
        self.progress(Progress(stage, 0, len(units)))
        found = measured(
            self.workload,
            candidates,
            batches,
            effects,
            units=units,
            exact=self.exact,
            two_terms=self.two_terms,
            store=self.store,
            executor=self.executor,
        )
        done = 0
        for measurement in found:
            yield measurement
            if measurement.effect is effects[-1]:
                done += 1
                self.progress(Progress(stage, done, len(units)))


def row_weights(
    means: Means,
    noise: Sequence[Noise],
    batches: Sequence[object],
    known: Sequence[Candidate],
    effects: tuple[Effect, ...],
) -> dict[Effect, NDArray[np.float64]]:
    """How much each tensor counts for each effect, (rows,): the weights of a surrogate fitted to known formats on the
    same mini-batches."""
    ratios = np.mean([each.ratios(known) for each in noise], axis=0)
    anchors = spread(places(ratios)[0], ANCHORS, [int(np.argmin(ratios.sum(1)))])
    units = [(number, index) for number in range(len(batches)) for index in anchors]
    observed: dict[Effect, list[Observation]] = {effect: [] for effect in effects}
    for found in means.measure(Stage.ANCHORS, known, batches, effects, units):
        observed[found.effect].append(Observation(found.format, found.minibatch, found.angle()))
    # Sorted: they come in any order from the store and other processes, and sums depend on it.
    return {
        effect: fit(effect, noise[0].kinds, ratios, sorted(seen), len(batches)).weights
        for effect, seen in observed.items()
    }


def _observe(means: Means, batches: Sequence[object], candidates: Sequence[Candidate]) -> list[Noise]:
    """The noise of one full-precision pass for each mini-batch."""
    passes = []
    means.progress(Progress(Stage.SCREEN, 0, len(batches)))
    for done, batch in enumerate(batches, start=1):
        with Gradients(means.workload, batch, exact=means.exact, two_terms=means.two_terms) as gradients:
            passes.append(observe(gradients, candidates))
        means.progress(Progress(Stage.SCREEN, done, len(batches)))
    return passes


def _check_fitted(effects: Iterable[str]) -> tuple[Effect, ...]:
    """Effects from their names; ValueError also for those of weights, to which no format is fitted."""
    wanted = check_effects(effects)
    for effect in wanted:
        if effect not in KINDS:
            raise ValueError(
                f"effect {effect}: formats are fitted to errors and activations; allowed are {', '.join(KINDS)}"
            )
    return wanted


def _check_passes(passes: int, available: int) -> None:
    if not 1 <= passes <= available:
        raise ValueError(f"{passes} noise passes: 1 to {available} are possible, one for each mini-batch")


def _known(bits: int) -> list[formats.ProfileFormat]:
    """The formats of a width that have names: the catalogue's, or where it has none, fixed point and the minifloats."""
    if bits in WIDTHS:
        return list(formats.catalogue(bits))
    names = [f"INT{bits}", *(f"FP1{x}{bits - 1 - x}" for x in range(2, bits))]
    return [found for name in names if isinstance(found := formats.get(name), formats.ProfileFormat)]


def _table(noise: Sequence[Noise], weights: Sequence[NDArray[np.float64]], kind: Kind | None = None) -> ScoreTable:
    """The score table of all rows, or of those of one kind."""
    counted = (
        weights
        if kind is None
        else [row * [k is kind for k in each.kinds] for each, row in zip(noise, weights, strict=True)]
    )
    return ScoreTable.of([each.tables for each in noise], counted)


def _check_rows(workload: Workload, noise: Sequence[Noise], effects: Sequence[Effect]) -> None:
    """ValueError for an effect of which nothing is rounded, so that any format would do."""
    for effect in effects:
        for kind in Kind:
            if kind.value in effect.value and not any(len(each.rows(kind)) for each in noise):
                raise ValueError(
                    f"effect {effect}: workload {workload.name} rounds no {kind} in one term, so that there is nothing to fit a format to"
                )


def _scores(
    noise: Sequence[Noise], weights: Sequence[NDArray[np.float64]], candidates: Sequence[Candidate]
) -> NDArray[np.float64]:
    """Weighted sums of noise-to-signal ratios, (candidates,), the mean over passes; here clamped scales count as they
    are."""
    return np.mean([each.ratios(candidates) @ row for each, row in zip(noise, weights, strict=True)], axis=0)


def _candidates(
    noise: Sequence[Noise],
    weights: dict[Effect, list[NDArray[np.float64]]],
    known: Sequence[formats.ProfileFormat],
    bits: int,
    constraints: Constraints,
    best: int,
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """What is worth measuring, the reference first, and why, both by digest."""
    chosen: dict[str, Candidate] = {}
    roles: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def add(candidate: Candidate, role: str, *effects: Effect) -> None:
        chosen[candidate.digest] = candidate
        roles[candidate.digest][role].extend(effects)

    standard = [entry for entry in known if entry.family in (formats.Family.INT, formats.Family.FP)]
    reference = standard[int(np.argmin(_scores(noise, list(weights.values())[-1], standard)))]
    add(next((entry for entry in standard if entry.name == REFERENCE), reference), "reference")
    for effect, rows in weights.items():
        for entry in synthesize(_table(noise, rows), bits, constraints, best):
            add(entry.format, "synthesized", effect)
        if effect is Effect.AE:
            activations, errors = (_table(noise, rows, kind) for kind in (Kind.A, Kind.E))
            for pair, _ in synthesize_pairs(activations, errors, bits, constraints, best):
                add(pair if pair.activation != pair.error else pair.activation, "pair", effect)
        if bits in WIDTHS:
            for role, granularity in (("catalogue", Granularity.TENSOR), ("block", Granularity.BLOCK)):
                group = [entry for entry in known if entry.granularity is granularity]
                add(group[int(np.argmin(_scores(noise, rows, group)))], role, effect)
    return chosen, {
        digest: ", ".join(" ".join([role, *of]) for role, of in entry.items()) for digest, entry in roles.items()
    }


def _differences(angles: Angles, candidate: int, reference: int, effect: Effect) -> tuple[float, float, float]:
    """Mean and 95% interval of a candidate's angle minus the reference's on common mini-batches."""
    own, others = angles.of(candidate, effect), angles.of(reference, effect)
    common = sorted(own.keys() & others.keys())
    if not common:
        return float("nan"), float("nan"), float("nan")
    return interval(np.array([own[number] - others[number] for number in common]))


def search(
    workload: Workload,
    bits: int = 8,
    *,
    effects: Iterable[str] = DEFAULT_EFFECTS,
    constraints: Constraints = Constraints(),
    best: int = 3,
    passes: int = 1,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exact: Sequence[str] = (),
    two_terms: bool = True,
    with_cost: bool = False,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Ranking:
    """Synthesize formats for a network and measure them exactly beside known ones, all on common mini-batches.

    bits: width, 2 to 8. effects: of E, A and AE; the last one orders the table. constraints: what synthesized profiles
    keep to.
    best: how many formats are synthesized for each effect; for AE also as many pairs of one format for activations and
    another for errors.
    passes: mini-batches whose tensors the synthesis sees; they follow the measured ones, so that a format is judged on
    others than those that it was made for (`held_out` in the settings; where there are too few mini-batches they are
    the last ones). minibatches: how many are measured, by default 8, or all where there are fewer.

    The known formats: the reference (FP134 at 8 bits, else the best of fixed point and the minifloats) and, by the same
    scores, for each effect the catalogue's best with a scale for each tensor and its best block minifloat. The table
    has the columns of a ranking and role (reference, synthesized, pair, catalogue or block, with the effects that it is
    for), then for each effect score (weighted sum of noise-to-signal ratios), difference, difference_low and
    difference_high: degrees less the reference's, with the paired 95% t-interval.

    KeyboardInterrupt while measuring ends it with what was measured. Raises ValueError for arguments out of range.
    """
    check_bits(bits)
    at_least(f"the best {best} formats", best)
    wanted = _check_fitted(effects)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    everything = workload.minibatches(batch_size)
    _check_passes(passes, len(everything))
    start = min(len(batches), len(everything) - passes)
    seen = everything[start : start + passes]
    means = Means(workload, exact, two_terms, store, executor, progress)
    began = time.monotonic()

    known = _known(bits)
    noise = _observe(means, seen, known)
    _check_rows(workload, noise, wanted)
    weights = {effect: [row] * len(noise) for effect, row in row_weights(means, noise, seen, known, wanted).items()}
    chosen, roles = _candidates(noise, weights, known, bits, constraints, best)
    candidates, angles = list(chosen.values()), Angles()
    complete = True
    units = [(number, index) for number in range(len(batches)) for index in range(len(candidates))]
    try:
        for measurement in means.measure(Stage.MEASURE, candidates, batches, wanted, units):
            angles.add(measurement)
    except KeyboardInterrupt:
        complete = False

    by = wanted[-1]
    table = tabulate(candidates, wanted, by, angles, {}, len(batches))
    added = pd.DataFrame(
        {"name": [entry.name for entry in candidates], "role": [roles[entry.digest] for entry in candidates]}
    )
    for effect in wanted:
        added[f"score_{effect}"] = _scores(noise, weights[effect], candidates)
        compared = np.array([_differences(angles, index, 0, effect) for index in range(len(candidates))])
        for column, values in zip(("difference", "difference_low", "difference_high"), compared.T, strict=True):
            added[f"{column}_{effect}"] = values
    settings: dict[str, Any] = {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "device": str(device_of(workload)),
        "data": digest([*batches, *seen]),
        "bits": bits,
        "effects": [effect.value for effect in wanted],
        "by": by.value,
        "constraints": asdict(constraints),
        "best": best,
        "passes": passes,
        "held_out": start >= len(batches),
        "reference": candidates[0].name,
        "minibatches": len(batches),
        "batch_size": batch_size if batch_size is not None or not callable(workload.batches) else workload.batch_size,
        "exact": list(exact),
        "two_terms": two_terms,
        "candidates": len(candidates),
        "gradients": sum(len(numbers) for numbers in angles.by_minibatch.values()),
        "failures": angles.failures,
        "complete": complete,
        "seconds": time.monotonic() - began,
        "formats": {entry.name: entry.digest for entry in candidates},
    }
    table = table.merge(added, on="name", how="left")
    if with_cost:
        table = with_gates(table, candidates, by)
    return Ranking(table, by, complete, settings)


def with_gates(table: pd.DataFrame, candidates: Sequence[Candidate], by: Effect) -> pd.DataFrame:
    """The table with columns gates (NAND2 equivalents of a lane, formats/hardware/cost.py) and front: no other row has
    both a smaller angle and fewer gates."""
    table = table.assign(gates=table["name"].map({entry.name: gates_of(entry) for entry in candidates}))
    angles = table[f"angle_{by}"]
    known = table.index[table["gates"].notna() & angles.notna()]
    front = known[pareto(zip(angles[known], table.loc[known, "gates"], strict=True))]
    return table.assign(front=table.index.isin(front))


def search_layers(
    workload: Workload,
    average_bits: float,
    *,
    widths: Iterable[int] = (4, 5, 6, 7, 8),
    effect: str = Effect.AE,
    constraints: Constraints = Constraints(),
    passes: int = 1,
    batch_size: int | None = None,
    exact: Sequence[str] = (),
    two_terms: bool = True,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A format for each layer under an average number of bits: the table of `format_per_layer`, and the settings.
    Nothing is measured.

    passes: how many of the first mini-batches the synthesis sees. Other arguments as for `search` and
    `format_per_layer`.
    """
    of = _check_fitted([effect])[0]
    allowed = check_widths(average_bits, widths)
    batches = workload.minibatches(batch_size)
    _check_passes(passes, len(batches))
    means = Means(workload, exact, two_terms, store, executor, progress)
    known = _known(max(allowed))
    noise = _observe(means, batches[:passes], known)
    _check_rows(workload, noise, [of])
    weights = row_weights(means, noise, batches[:passes], known, (of,))[of]
    table = format_per_layer(noise, [weights] * len(noise), average_bits, allowed, constraints)
    settings: dict[str, Any] = {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "device": str(device_of(workload)),
        "data": digest(list(batches[:passes])),
        "effect": of.value,
        "average_bits": average_bits,
        "widths": allowed,
        "constraints": asdict(constraints),
        "passes": passes,
        "batch_size": batch_size if batch_size is not None or not callable(workload.batches) else workload.batch_size,
        "exact": list(exact),
        "two_terms": two_terms,
    }
    return table, settings
