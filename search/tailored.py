"""Search beyond the catalogue: synthesize the best formats for a network, and measure them beside the best that are
known."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import formats
from formats import Granularity
from formats.families import WIDTHS
from formats.pairs import Candidate
from numeric_formats.checks import at_least
from numeric_formats.progress import Report, quiet
from predictor.columns import FRONT, GATES, NAME, ROLE, angle_column, difference_columns, score_column
from predictor.effects import DEFAULT_EFFECTS, Effect
from predictor.gradient.noise import Kind, Noise
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import DEFAULT_MINIBATCHES, check_minibatches
from predictor.scheme import Preset, Scheme, scheme_of
from predictor.statistics import paired_interval, pareto
from search.knapsack import Constraints, ScoreTable, check_width, synthesize, synthesize_pairs
from search.sensitivity import (
    check_fitted,
    check_passes,
    check_rows,
    known_formats,
    measured_in,
    observed_noise,
    row_weights,
)
from search.settings import SearchSettings, origin_of
from search.stages import Stage
from search.table import MeasuredAngles, Ranking, tabulate, with_gates
from workloads.workload import Workload

REFERENCE = "FP134"
"""What 8-bit formats are compared with; at other widths that is the best of fixed point and the minifloats."""


def _table(noise: Sequence[Noise], weights: Sequence[NDArray[np.float64]], kind: Kind | None = None) -> ScoreTable:
    """The score table of all rows, or of those of one kind."""
    counted = (
        weights
        if kind is None
        else [row * [k is kind for k in each.kinds] for each, row in zip(noise, weights, strict=True)]
    )
    return ScoreTable.of([each.tables for each in noise], counted)


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
    scheme: Scheme,
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
        for entry in synthesize(_table(noise, rows), bits, constraints, best, scheme):
            add(entry.format, "synthesized", effect)
        if effect is Effect.AE:
            activations, errors = (_table(noise, rows, kind) for kind in (Kind.A, Kind.E))
            for pair, _ in synthesize_pairs(activations, errors, bits, constraints, best, scheme):
                add(pair if pair.activation != pair.error else pair.activation, "pair", effect)
        if bits in WIDTHS:
            for role, granularity in (("catalogue", Granularity.TENSOR), ("block", Granularity.BLOCK)):
                group = [entry for entry in known if entry.granularity is granularity]
                add(group[int(np.argmin(_scores(noise, rows, group)))], role, effect)
    return chosen, {
        digest: ", ".join(" ".join([role, *of]) for role, of in entry.items()) for digest, entry in roles.items()
    }


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
    scheme: Scheme | str = Preset.PAPER,
    two_terms: bool = True,
    with_cost: bool = False,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Report = quiet,
) -> Ranking[SearchSettings]:
    """Synthesize formats for a network and measure them exactly beside known ones, all on common mini-batches.

    The known formats: the reference (FP134 at 8 bits, else the best of fixed point and the minifloats) and, by the same
    scores, for each effect the catalogue's best with a scale for each tensor and its best block minifloat.
    KeyboardInterrupt while measuring ends it with what was measured.

    Args:
        workload: What is measured.
        bits: Width, 2 to 8.
        effects: Of E, A and AE; the last one orders the table.
        constraints: What synthesized profiles keep to.
        best: How many formats are synthesized for each effect; for AE also as many pairs of one format for activations
            and another for errors.
        passes: Mini-batches whose tensors the synthesis sees; they follow the measured ones, so that a format is judged
            on others than those that it was made for (`held_out` in the settings; where there are too few mini-batches
            they are the last ones).
        minibatches: How many are measured, by default 8, or all where there are fewer.
        batch_size: Examples in a mini-batch, by default the workload's.
        exact: Layers kept in full precision.
        scheme: By which activations and errors are rounded: `paper`, `current`, `authors`, or a `Scheme`.
        two_terms: Whether inputs and last errors are rounded in two terms.
        with_cost: Add the columns gates (formats/hardware/cost.py) and front: whether no other row has both a smaller
            angle and fewer gates.
        store: Where exact measurements are found and kept; by default nowhere.
        executor: What measures, by default this process.
        progress: Hears of every step.

    Returns:
        A ranking whose table has also role (reference, synthesized, pair, catalogue or block, with the effects that it
        is for), then for each effect score (weighted sum of noise-to-signal ratios), difference, difference_low and
        difference_high: degrees less the reference's, with the paired 95% t-interval.

    Raises:
        ValueError: Arguments out of range.
    """
    check_width(bits)
    at_least(f"the best {best} formats", best)
    wanted = check_fitted(effects)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    everything = workload.minibatches(batch_size)
    check_passes(passes, len(everything))
    start = min(len(batches), len(everything) - passes)
    seen = everything[start : start + passes]
    rules = scheme_of(scheme, two_terms=two_terms)
    measuring = Measuring(workload, tuple(exact), rules, store, executor or InProcess(), progress)
    began = time.monotonic()

    known = known_formats(bits)
    noise = observed_noise(measuring, seen, known)
    check_rows(workload, noise, wanted)
    weights = {effect: [row] * len(noise) for effect, row in row_weights(measuring, noise, seen, known, wanted).items()}
    chosen, roles = _candidates(noise, weights, known, bits, constraints, best, rules)
    candidates, angles = list(chosen.values()), MeasuredAngles()
    complete = True
    units = [(number, index) for number in range(len(batches)) for index in range(len(candidates))]
    try:
        for measurement in measured_in(measuring, Stage.MEASURE, candidates, batches, wanted, units):
            angles.add(measurement)
    except KeyboardInterrupt:
        complete = False

    by = wanted[-1]
    table = tabulate(candidates, wanted, by, angles, {}, len(batches))
    added = pd.DataFrame(
        {NAME: [entry.name for entry in candidates], ROLE: [roles[entry.digest] for entry in candidates]}
    )
    for effect in wanted:
        added[score_column(effect)] = _scores(noise, weights[effect], candidates)
        less = [paired_interval(angles.of(index, effect), angles.of(0, effect)) for index in range(len(candidates))]
        for column, values in zip(difference_columns(effect), np.array(less).T, strict=True):
            added[column] = values
    table = table.merge(added, on=NAME, how="left")
    if with_cost:
        table = with_front(with_gates(table, candidates), by)
    settings = SearchSettings(
        **origin_of(measuring, [*batches, *seen], batch_size),
        bits=bits,
        effects=wanted,
        by=by,
        constraints=constraints,
        best=best,
        passes=passes,
        held_out=start >= len(batches),
        reference=candidates[0].name,
        minibatches=len(batches),
        candidates=len(candidates),
        gradients=sum(len(numbers) for numbers in angles.by_minibatch.values()),
        failures=angles.failures,
        complete=complete,
        seconds=time.monotonic() - began,
        formats={entry.name: entry.digest for entry in candidates},
    )
    return Ranking(table, by, complete, settings)


def with_front(table: pd.DataFrame, by: Effect) -> pd.DataFrame:
    """The table of formats with their gates, and whether no other row has both a smaller angle and fewer gates, in the
    column front."""
    angles = table[angle_column(by)]
    known = table.index[table[GATES].notna() & angles.notna()]
    front = known[pareto(zip(angles[known], table.loc[known, GATES], strict=True))]
    return table.assign(**{FRONT: table.index.isin(front)})
