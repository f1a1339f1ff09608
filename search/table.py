"""From angles of many formats to an ordered table with ties."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from formats import Format, ProfileFormat
from formats.pairs import Candidate, formats_of
from formats.profile import written
from predictor.effects import Effect
from predictor.measuring.units import Measurement
from predictor.statistics import angle_interval, interval

MEASURED, PREDICTED = "measured", "predicted"


@dataclass
class Angles:
    """Angles in degrees of every candidate and effect by mini-batch, as they come in."""

    by_minibatch: dict[tuple[int, Effect], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    failures: int = 0

    def add(self, measurement: Measurement) -> None:
        """Take in one measurement."""
        self.by_minibatch[measurement.format, measurement.effect][measurement.minibatch] = measurement.angle()
        self.seconds[measurement.format] += measurement.seconds
        self.failures += int(measurement.failed())

    def of(self, candidate: int, effect: Effect) -> dict[int, float]:
        """Mini-batch to angle, in the order of mini-batches, so that sums over them do not depend on which came in
        first; empty where nothing was measured."""
        return dict(sorted(self.by_minibatch.get((candidate, effect), {}).items()))


@dataclass(frozen=True)
class Ranking:
    """A finished or interrupted ranking.

    table: one row per candidate, best first; the columns of docs/definitions/prediction.md section 4. by: the effect
    that orders it. complete: False where Ctrl-C or the time budget ended the measurements early. settings: all that
    reproduces it.
    """

    table: pd.DataFrame
    by: Effect
    complete: bool
    settings: dict[str, Any]


def describe(candidate: Candidate) -> dict[str, Any]:
    """Name, bits, family, granularity, profile and binades of a candidate, those of a pair joined by +."""

    def one(format: Format) -> dict[str, Any]:
        if not isinstance(format, ProfileFormat):
            return {"bits": None, "family": "custom", "granularity": "", "profile": "", "binades": None}
        return {
            "bits": format.bits,
            "family": format.family.value,
            "granularity": format.granularity.value,
            "profile": written(format.profile),
            "binades": format.binades,
        }

    activation, error = (one(format) for format in formats_of(candidate))
    if activation == error:
        return {"name": candidate.name, **activation}
    joined = {key: f"{activation[key]}+{error[key]}" for key in ("family", "granularity", "profile")}
    largest = {
        key: None if activation[key] is None or error[key] is None else max(activation[key], error[key])
        for key in ("bits", "binades")
    }
    return {"name": candidate.name, **{key: {**joined, **largest}[key] for key in activation}}


def places(order: Sequence[int], angles: Angles, by: Effect) -> list[int]:
    """Ranks of candidates in their order: one shares its group leader's rank while the paired 95% interval holds 0."""
    ranks: list[int] = []
    leader = -1
    for place, candidate in enumerate(order, start=1):
        if leader >= 0 and _tied(angles.of(candidate, by), angles.of(leader, by)):
            ranks.append(ranks[-1])
        else:
            leader = candidate
            ranks.append(place)
    return ranks


def _tied(own: dict[int, float], leaders: dict[int, float]) -> bool:
    common = sorted(own.keys() & leaders.keys())
    if len(common) < 2:
        return False
    _, low, high = interval(np.array([own[number] - leaders[number] for number in common]))
    return low <= 0 <= high


def _on_common(candidates: int, angles: Angles, by: Effect) -> pd.Series[float]:
    """Mean angles over those mini-batches that all measured candidates have in common, or over all of each where there
    are none.

    After an interrupt some have run on one mini-batch more, which may be one that turns every gradient further.
    """
    own = [angles.of(index, by) for index in range(candidates)]
    reached = [set(entry) for entry in own if entry]
    common = set.intersection(*reached) if reached else set()
    kept = [[entry[number] for number in sorted(common & entry.keys() or entry)] for entry in own]
    return pd.Series([np.mean(values) if values else np.nan for values in kept])


def tabulate(
    candidates: Sequence[Candidate],
    effects: Sequence[Effect],
    by: Effect,
    angles: Angles,
    predicted: dict[Effect, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]],
    minibatches: int,
) -> pd.DataFrame:
    """The table of a ranking over `minibatches` mini-batches.

    predicted: angle, low and high of every candidate; used where a candidate was not measured on all mini-batches.
    Without it the mean of what was measured stands, and nothing (source "") where there is none; the order is then by
    the mini-batches that all have in common.
    """
    rows = []
    for index, candidate in enumerate(candidates):
        row = describe(candidate)
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
                f"angle_{effect}": mean,
                f"low_{effect}": low,
                f"high_{effect}": high,
                f"n_{effect}": len(values),
                f"source_{effect}": MEASURED if len(values) else PREDICTED if effect in predicted else "",
            }
        row["seconds"] = angles.seconds.get(index, 0.0)
        rows.append(row)
    table = pd.DataFrame(rows)
    for column in ("bits", "binades"):
        table[column] = table[column].astype("Int64")
    angle = table[f"angle_{by}"] if by in predicted else _on_common(len(candidates), angles, by)
    order = angle.sort_values(kind="stable", na_position="last").index
    table = table.loc[order]
    table.insert(0, "rank", places(list(order), angles, by))
    return table.reset_index(drop=True)


def regret(candidates: Sequence[Candidate], table: pd.DataFrame, angles: Angles, by: Effect) -> float:
    """By how many degrees at most another candidate is better than the first of the table, each bound at 97.5%
    confidence; 0 where none is.

    From paired differences where both were measured on the same mini-batches at least twice, else from the other's own
    lower bound, which is 0 for one of which nothing is known; never more than the first's own angle. Not a number where
    the first was measured on fewer than two mini-batches.
    """
    indices = {candidate.name: index for index, candidate in enumerate(candidates)}
    winner = angles.of(indices[table["name"].iloc[0]], by)
    if len(winner) < 2:
        return float("nan")
    first, bounds = float(table[f"angle_{by}"].iloc[0]), [0.0]
    for name, low in zip(table["name"].iloc[1:], table[f"low_{by}"].iloc[1:], strict=True):
        other = angles.of(indices[name], by)
        common = sorted(winner.keys() & other.keys())
        if len(other) == len(winner) == len(common) >= 2:
            bounds.append(interval(np.array([winner[number] - other[number] for number in common]))[2])
        else:
            bounds.append(first if np.isnan(low) else first - float(low))
    return min(first, max(bounds))
