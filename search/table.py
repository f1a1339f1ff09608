"""From angles of many formats to an ordered table with ties, and the typed result that holds it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from formats.description import outline
from formats.hardware.totals import PRODUCTS, bytes_of, cost_or_none
from formats.pairs import Candidate, formats_of
from predictor.columns import (
    BIAS,
    BIAS_HIGH,
    BIAS_LOW,
    BINADES,
    BITS,
    BYTES,
    COSTS,
    DESCRIBED,
    ENERGY,
    FAMILY,
    GAP,
    GAP_HIGH,
    GAP_LOW,
    GATES,
    GRANULARITY,
    MEASURED,
    NAME,
    NOT_COUNTED,
    PREDICTED,
    PROFILE,
    PROJECTION,
    RANK,
    SECONDS,
    angle_column,
    difference_columns,
    high_column,
    low_column,
    n_column,
    source_column,
)
from predictor.effects import Effect, repeats_within
from predictor.measuring.units import Measurement
from predictor.risk import Risk
from predictor.statistics import angle_interval, bias, paired_interval, tied_ranks, values_to_tell
from search.settings import ResultSettings


@dataclass
class MeasuredAngles:
    """Angles in degrees of every candidate and effect by mini-batch, as they come in."""

    by_minibatch: dict[tuple[int, Effect], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    measured: dict[tuple[int, Effect], dict[int, Measurement]] = field(default_factory=lambda: defaultdict(dict))
    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    failures: int = 0

    def add(self, measurement: Measurement) -> None:
        """Take in one measurement."""
        key, number = (measurement.format, measurement.effect), measurement.minibatch
        self.by_minibatch[key][number] = measurement.angle()
        self.measured[key][number] = measurement
        self.seconds[measurement.format] += measurement.seconds
        self.failures += int(measurement.failed())

    def of(self, candidate: int, effect: Effect) -> dict[int, float]:
        """Mini-batch to angle, in the order of mini-batches, so that sums over them do not depend on which came in
        first; empty where nothing was measured."""
        return dict(sorted(self.by_minibatch.get((candidate, effect), {}).items()))

    def lengths(self, candidate: int, effect: Effect) -> dict[str, float]:
        """Mean projection, and the bias with its interval, of what was measured, by column."""
        found = [entry for _, entry in sorted(self.measured.get((candidate, effect), {}).items())]
        of_bias = bias([entry.sketch for entry in found], [entry.square for entry in found])
        mean = float(np.mean([entry.projection() for entry in found])) if found else float("nan")
        return {PROJECTION: mean, BIAS: of_bias.value, BIAS_LOW: of_bias.low, BIAS_HIGH: of_bias.high}


SettingsT = TypeVar("SettingsT", bound=ResultSettings)


@dataclass(frozen=True)
class Ranking(Generic[SettingsT]):
    """A finished or interrupted ranking.

    Attributes:
        table: One row per candidate, best first; columns as docs/definitions/prediction.md section 4 has them.
        by: The effect that orders it.
        complete: False where Ctrl-C or the time budget ended the measurements early.
        settings: All that reproduces it: `RankingSettings` of `rank`, `SearchSettings` of `search`.
    """

    table: pd.DataFrame
    by: Effect
    complete: bool
    settings: SettingsT


def description_row(candidate: Candidate) -> dict[str, Any]:
    """Name, bits, family, granularity, profile and binades of a candidate, those of a pair joined by +."""

    activation, error = (outline(format) for format in formats_of(candidate))
    if activation == error:
        return {NAME: candidate.name} | {key: activation[key] for key in DESCRIBED[1:]}
    joined = {key: f"{activation[key]}+{error[key]}" for key in (FAMILY, GRANULARITY, PROFILE)}
    largest = {
        key: None if activation[key] is None or error[key] is None else max(activation[key], error[key])
        for key in (BITS, BINADES)
    }
    return {NAME: candidate.name} | {key: (joined | largest)[key] for key in DESCRIBED[1:]}


def _on_common(candidates: int, angles: MeasuredAngles, by: Effect) -> pd.Series[float]:
    """Mean angles over those mini-batches that all measured candidates have in common, or over all of each where there
    are none.

    After an interrupt some have run on one mini-batch more, which may be one that turns every gradient further.
    """
    own = [angles.of(index, by) for index in range(candidates)]
    reached = [set(entry) for entry in own if entry]
    common = set.intersection(*reached) if reached else set()
    kept = [[entry[number] for number in sorted(common & entry.keys() or entry)] for entry in own]
    return pd.Series([np.mean(values) if values else np.nan for values in kept])


def whole_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with bits and binades as whole numbers, missing where a format has none."""
    return table.astype({BITS: "Int64", BINADES: "Int64"})


def tabulate(
    candidates: Sequence[Candidate],
    effects: Sequence[Effect],
    by: Effect,
    angles: MeasuredAngles,
    predicted: dict[Effect, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]],
    minibatches: int,
) -> pd.DataFrame:
    """The table of a ranking over `minibatches` mini-batches.

    Projection and bias are those of the effect `by`, where it was measured.

    predicted: angle, low and high of every candidate; used where a candidate was not measured on all mini-batches.
    Without it the mean of what was measured stands, and nothing (source "") where there is none; the order is then by
    the mini-batches that all have in common.
    """
    rows = []
    for index, candidate in enumerate(candidates):
        row = description_row(candidate)
        for effect in effects:
            # In one order, since the last bit of a mean depends on it.
            values = np.array([angle for _, angle in sorted(angles.of(index, effect).items())])
            if len(values) < minibatches and effect in predicted:
                mean, low, high = (float(column[index]) for column in predicted[effect])
            elif len(values):
                mean, low, high = angle_interval(values)
            else:
                mean = low = high = float("nan")
            row |= {
                angle_column(effect): mean,
                low_column(effect): low,
                high_column(effect): high,
                n_column(effect): len(values),
                source_column(effect): MEASURED if len(values) else PREDICTED if effect in predicted else "",
            }
        row |= angles.lengths(index, by)
        row[SECONDS] = angles.seconds.get(index, 0.0)
        rows.append(row)
    table = whole_numbers(pd.DataFrame(rows))
    angle = table[angle_column(by)] if by in predicted else _on_common(len(candidates), angles, by)
    order = angle.sort_values(kind="stable", na_position="last").index
    table = table.loc[order]
    table.insert(0, RANK, tied_ranks([angles.of(candidate, by) for candidate in order], repeats_within(by)))
    return table.reset_index(drop=True)


def with_differences(
    table: pd.DataFrame, candidates: Sequence[Candidate], by: Effect, angles: MeasuredAngles
) -> pd.DataFrame:
    """The table with the mean of paired differences to its first format and the ends of its interval, over the
    mini-batches that both were measured on."""
    indices = {candidate.name: index for index, candidate in enumerate(candidates)}
    ordered = [angles.of(indices[name], by) for name in table[NAME]]
    less = np.array([paired_interval(own, ordered[0]) for own in ordered])
    return table.assign(**dict(zip(difference_columns(by), less.T, strict=True)))


def with_gaps(table: pd.DataFrame, risk: Risk) -> pd.DataFrame:
    """The table with the columns gap, gap_low and gap_high (`predictor.risk`), from angles of its indicator."""
    gaps = risk.gaps(table[angle_column(risk.indicator)].tolist())
    return table.assign(**dict(zip((GAP, GAP_LOW, GAP_HIGH), gaps, strict=True)))


def cost_of(of: str | Candidate, products: int = PRODUCTS) -> dict[str, Any]:
    """The columns `COSTS` of one format or pair, in sums of so many products."""
    found = cost_or_none(of, products)
    if found is None:
        return {GATES: np.nan, ENERGY: np.nan, BYTES: bytes_of(of), NOT_COUNTED: ""}
    return dict(zip(COSTS, (found.total, found.femtojoules, found.bytes_per_value, found.not_counted), strict=True))


def with_gates(table: pd.DataFrame, candidates: Sequence[Candidate], products: int = PRODUCTS) -> pd.DataFrame:
    """The table with what a multiply-accumulate costs (formats/hardware/totals.py) in sums of so many products: gates
    in NAND2 equivalents, femtojoules, bytes_per_value, and in words what is not_counted; gates and energy are missing
    where there is no lane."""
    found = {entry.name: cost_of(entry, products) for entry in candidates}
    rows = [found[name] for name in table[NAME]]
    return table.assign(**{column: [row[column] for row in rows] for column in COSTS})


def minibatches_to_tell(
    by: Effect, first: Mapping[int, float], second: Mapping[int, float] = MappingProxyType({})
) -> int | None:
    """How many mini-batches would tell two formats apart (`values_to_tell`); None also where the difference is smaller
    than an angle of this effect repeats itself."""
    return values_to_tell(first, second, repeats_within(by))


def regret(candidates: Sequence[Candidate], table: pd.DataFrame, angles: MeasuredAngles, by: Effect) -> float:
    """By how many degrees at most another candidate is better than the first of the table, each bound at 97.5%
    confidence; not less than an angle repeats itself within.

    From paired differences where both were measured on the same mini-batches at least twice, else from the other's own
    lower bound, which is 0 for one of which nothing is known; never more than the first's own angle. Not a number where
    the first was measured on fewer than two mini-batches.
    """
    indices = {candidate.name: index for index, candidate in enumerate(candidates)}
    winner = angles.of(indices[table[NAME].iloc[0]], by)
    if len(winner) < 2:
        return float("nan")
    first = float(table[angle_column(by)].iloc[0])
    bounds = [repeats_within(by) * first]
    for name, low in zip(table[NAME].iloc[1:], table[low_column(by)].iloc[1:], strict=True):
        other = angles.of(indices[name], by)
        if winner.keys() == other.keys():
            bounds.append(paired_interval(winner, other)[2])
        else:
            bounds.append(first if np.isnan(low) else first - float(low))
    return min(first, max(bounds))
