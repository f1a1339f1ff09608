"""Search beyond the catalogue: synthesize the best formats for a network, and measure them beside the best that are known."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import formats
from formats import Granularity
from formats.catalogue import WIDTHS
from predictor.gradient import Candidate, Effect, Gradients
from predictor.measure import DEFAULT_EFFECTS, DEFAULT_MINIBATCHES, check_effects, check_minibatches, interval, measurements
from predictor.noise import Kind, Noise, observe
from search.layers import check_widths, format_per_layer
from search.rank import Progress, Stage
from search.ranking import Angles, Ranking, tabulate
from search.synthesize import Constraints, ScoreTable, check_bits, synthesize, synthesize_pairs
from workloads.digest import digest, weights_digest
from workloads.workload import Workload

REFERENCE = "FP134"
"""What 8-bit formats are compared with; at other widths that is the best of fixed point and the minifloats."""


def row_weights(noise: Noise, effect: Effect) -> NDArray[np.float64]:
    """How much each row of a noise pass counts for an effect, (rows,): the rows that it quantizes count alike."""
    weights = np.zeros(len(noise.kinds))
    for kind in Kind:
        if kind.value in effect.value:
            weights[noise.rows(kind)] = 1.0
    return weights


def _quiet(_: Progress) -> None:
    return None


def _observe(
    workload: Workload,
    batches: Sequence[object],
    candidates: Sequence[Candidate],
    exact: Sequence[str],
    two_terms: bool,
    progress: Callable[[Progress], None],
) -> list[Noise]:
    """The noise of one full-precision pass for each mini-batch."""
    passes = []
    progress(Progress(Stage.SCREEN, 0, len(batches)))
    for done, batch in enumerate(batches, start=1):
        with Gradients(workload, batch, exact=exact, two_terms=two_terms) as gradients:
            passes.append(observe(gradients, candidates))
        progress(Progress(Stage.SCREEN, done, len(batches)))
    return passes


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
    counted = weights if kind is None else [row * [k is kind for k in each.kinds] for each, row in zip(noise, weights, strict=True)]
    return ScoreTable.of([each.tables for each in noise], counted)


def _check_rows(workload: Workload, noise: Sequence[Noise], effects: Sequence[Effect]) -> None:
    """ValueError for an effect of which nothing is rounded, so that any format would do."""
    for effect in effects:
        for kind in Kind:
            if kind.value in effect.value and not any(len(each.rows(kind)) for each in noise):
                raise ValueError(
                    f"effect {effect}: workload {workload.name} rounds no {kind} in one term, so that there is nothing to fit a format to"
                )


def _scores(noise: Sequence[Noise], weights: Sequence[NDArray[np.float64]], candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Weighted sums of noise-to-signal ratios, (candidates,), the mean over passes; here clamped scales count as they are."""
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
    return chosen, {digest: ", ".join(" ".join([role, *of]) for role, of in entry.items()) for digest, entry in roles.items()}


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
    progress: Callable[[Progress], None] = _quiet,
) -> Ranking:
    """Synthesize formats for a network and measure them exactly beside known ones, all on common mini-batches.

    bits: width, 2 to 8. effects: of E, A and AE; the last one orders the table. constraints: what synthesized profiles keep to.
    best: how many formats are synthesized for each effect; for AE also as many pairs of one format for activations and another for errors.
    passes: mini-batches whose tensors the synthesis sees; they follow the measured ones, so that a format is judged on others than those that it was made for (`held_out` in the
    settings; where there are too few mini-batches they are the last ones). minibatches: how many are measured, by default 8, or all where there are fewer.

    The known formats: the reference (FP134 at 8 bits, else the best of fixed point and the minifloats) and, by the same scores, for each effect the
    catalogue's best with a scale for each tensor and its best block minifloat. The table has the columns of a ranking and role (reference, synthesized, pair, catalogue or
    block, with the effects that it is for), then for each effect
    score (weighted sum of noise-to-signal ratios), difference, difference_low and difference_high: degrees less the reference's, with
    the paired 95% t-interval.

    KeyboardInterrupt while measuring ends it with what was measured. Raises ValueError for arguments out of range.
    """
    check_bits(bits)
    if best < 1:
        raise ValueError(f"the best {best} formats: at least 1 is needed")
    wanted = check_effects(effects)
    measured = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    everything = workload.minibatches(batch_size)
    _check_passes(passes, len(everything))
    start = min(len(measured), len(everything) - passes)
    began = time.monotonic()

    known = _known(bits)
    noise = _observe(workload, everything[start : start + passes], known, exact, two_terms, progress)
    weights = {effect: [row_weights(each, effect) for each in noise] for effect in wanted}
    _check_rows(workload, noise, wanted)
    chosen, roles = _candidates(noise, weights, known, bits, constraints, best)
    candidates, angles = list(chosen.values()), Angles()
    complete, done, total = True, 0, len(candidates) * len(measured)
    try:
        progress(Progress(Stage.MEASURE, 0, total))
        for measurement in measurements(workload, candidates, measured, wanted, exact=exact, two_terms=two_terms):
            angles.add(measurement)
            if measurement.effect is wanted[-1]:
                done += 1
                progress(Progress(Stage.MEASURE, done, total))
    except KeyboardInterrupt:
        complete = False

    by = wanted[-1]
    table = tabulate(candidates, wanted, by, angles, {})
    added = pd.DataFrame({"name": [entry.name for entry in candidates], "role": [roles[entry.digest] for entry in candidates]})
    for effect in wanted:
        added[f"score_{effect}"] = _scores(noise, weights[effect], candidates)
        compared = np.array([_differences(angles, index, 0, effect) for index in range(len(candidates))])
        for column, values in zip(("difference", "difference_low", "difference_high"), compared.T, strict=True):
            added[f"{column}_{effect}"] = values
    settings: dict[str, Any] = {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "data": digest([*measured, *everything[start : start + passes]]),
        "bits": bits,
        "effects": [effect.value for effect in wanted],
        "by": by.value,
        "constraints": asdict(constraints),
        "best": best,
        "passes": passes,
        "held_out": start >= len(measured),
        "reference": candidates[0].name,
        "minibatches": len(measured),
        "batch_size": batch_size if batch_size is not None or not callable(workload.batches) else workload.batch_size,
        "exact": list(exact),
        "two_terms": two_terms,
        "candidates": len(candidates),
        "measurements": done,
        "failures": angles.failures,
        "complete": complete,
        "seconds": time.monotonic() - began,
        "formats": {entry.name: entry.digest for entry in candidates},
    }
    return Ranking(table.merge(added, on="name", how="left"), by, complete, settings)


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
    progress: Callable[[Progress], None] = _quiet,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A format for each layer under an average number of bits: the table of `format_per_layer`, and the settings. Nothing is measured.

    passes: how many of the first mini-batches the synthesis sees. Other arguments as for `search` and `format_per_layer`.
    """
    of = check_effects([effect])[0]
    allowed = check_widths(average_bits, widths)
    batches = workload.minibatches(batch_size)
    _check_passes(passes, len(batches))
    noise = _observe(workload, batches[:passes], (), exact, two_terms, progress)
    table = format_per_layer(noise, [row_weights(each, of) for each in noise], average_bits, allowed, constraints)
    settings: dict[str, Any] = {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
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
