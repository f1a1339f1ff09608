"""What several tables have: angles with their intervals, numbers that may be missing, rank correlations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from predictor.columns import (
    GAP,
    GAP_HIGH,
    GAP_LOW,
    HIGH_OF_PROJECTION,
    LOW_OF_PROJECTION,
    PROJECTION,
    N,
    angle_column,
    high_column,
    low_column,
    n_column,
)
from predictor.effects import Points
from predictor.risk import Risk
from predictor.scheme import Scheme
from predictor.statistics import Agreement, narrower
from reports.sources import Source, source_of


def rounded_where(points: Points, scheme: Scheme) -> str:
    """Where formats were rounded and by which rules, in a title."""
    return f"scheme {scheme.name}" if points is Points.DATAFLOW else "points operands"


def or_dash(value: Any, form: str = "") -> str:
    """A value; - where there is none."""
    return "-" if pd.isna(value) else format(value, form)


FEW = 4
"""Up to so many mini-batches an interval is written by its ends, which say better how wide it is."""
LOPSIDED = 0.05
"""So is one whose middle lies this share of its width from the mean, as where it ends at 0."""


def bounded(angle: float, low: float, high: float, minibatches: float = math.inf, digits: int = 3) -> str:
    """An angle with its 95% interval: by its half-width, or its ends where that would mislead."""
    if pd.isna(angle):
        return "-"
    if pd.isna(low):
        return f"{angle:.{digits}f}"
    if minibatches <= FEW or abs((high + low) / 2 - angle) > LOPSIDED * (high - low):
        return f"{angle:.{digits}f} [{low:.3g}, {high:.3g}]"
    return f"{angle:.{digits}f} ± {(high - low) / 2:.{digits}f}"


WIDE = 1 / 3
"""Of its angle: an interval that reaches further to one side says little."""


def wide(angles: Iterable[tuple[float, float, float, int]]) -> list[str]:
    """A line on intervals that say little, and what makes them narrower; none where they do not, or most do not.

    angles: each with the ends of its interval and its mini-batches.
    """
    known = [row for row in angles if not pd.isna(row[0])]
    if not known:
        return []
    few = min(minibatches for *_, minibatches in known)
    if few == 1:
        return [f"one mini-batch gives no interval; --minibatches {FEW} does"]
    reach = [high - angle > WIDE * angle for angle, _, high, _ in known]
    if 2 * sum(reach) <= len(reach):
        return []
    more = max(2 * few, FEW)
    return [
        f"{sum(reach)} of {len(reach)} intervals reach more than a third of their angle to a side; "
        f"--minibatches {more} makes them about {narrower(few, more):.2g} times narrower"
    ]


def with_bounds(row: Any, effect: str) -> str:
    """The angle of an effect with its 95% interval."""
    angle, low, high = row[angle_column(effect)], row[low_column(effect)], row[high_column(effect)]
    return bounded(angle, low, high, row.get(n_column(effect), row.get(N, math.inf)))


def with_interval(row: Any, value: str, low: str, high: str) -> str:
    """A number with the ends of its interval."""
    if pd.isna(row[value]):
        return "-"
    return f"{row[value]:.3g}" if pd.isna(row[low]) else f"{row[value]:.3g} [{row[low]:.3g}, {row[high]:.3g}]"


def projection(row: Any) -> str:
    """The projection of a row of recipes with the ends of its 95% interval."""
    if pd.isna(row[PROJECTION]):
        return "-"
    ends = row[LOW_OF_PROJECTION], row[HIGH_OF_PROJECTION]
    return f"{row[PROJECTION]:.4f}" + ("" if pd.isna(ends[0]) else f" [{ends[0]:.3f}, {ends[1]:.3f}]")


def angle(row: Any, effect: str, minibatches: int = 0) -> str:
    """The angle of an effect in a ranking's row, with its 95% interval; ~ is an estimate: predicted, or measured on
    fewer mini-batches than the ranking has."""
    found = row[angle_column(effect)]
    if not pd.isna(found) and source_of(row, effect, minibatches) is not Source.MEASURED:
        return f"~{found:.3g}"
    return with_bounds(row, effect)


def gap(row: Any) -> str:
    """The gap of a ranking's row with the ends of its interval, in percent."""
    if pd.isna(row[GAP]):
        return "-"
    value, low, high = (100 * float(row[column]) for column in (GAP, GAP_LOW, GAP_HIGH))
    return f"{value:.1f}% [{low:.0f}, {'?' if math.isinf(high) else f'{high:.0f}'}]"


def gap_at(risk: Risk, angle: float) -> str:
    """The same of a gap that is told by an angle in degrees of the risk's effect."""
    told = zip((GAP, GAP_LOW, GAP_HIGH), risk.gaps([angle]), strict=True)
    return gap({column: float(value[0]) for column, value in told})


def correlations(of: Agreement) -> str:
    """The numbers of an agreement of two rankings."""
    return (
        f"Spearman {of.spearman:.3f} "
        f"({of.spearman_low:.3f} to {of.spearman_high:.3f}), Kendall {of.kendall:.3f} "
        f"({of.kendall_low:.3f} to {of.kendall_high:.3f}); 95% bootstrap intervals"
    )
