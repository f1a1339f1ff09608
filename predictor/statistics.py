"""Statistics that rankings, attributions, trainings and reports share: intervals, rank correlations, Pareto fronts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
OUTSIDE = (2.5, 97.5)
"""The percentiles that an interval of this confidence lies between."""
RESAMPLES = 2_000
"""Bootstrap samples."""
MOST_TO_TELL = 10_000
"""Values beyond which nobody counts how many would tell two means apart."""
FEWEST = 3
"""Mini-batches that the interval of a bias takes."""


def half_width(error: float, count: int) -> float:
    """Of the 95% t-interval of a mean of so many values with this standard error."""
    # scipy's functions alone: its distributions take longer to load than short commands run.
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * error)


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95% t-interval; the interval is not a number for fewer than two values."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = half_width(values.std(ddof=1), len(values)) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def angle_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95% t-interval of angles, without what no angle can be."""
    mean, low, high = interval(values)
    return mean, max(low, 0.0) if low == low else low, min(high, 180.0) if high == high else high


def narrower(few: int, more: int) -> float:
    """How many times narrower 95% t-intervals become with more values, if those spread as the few did."""
    return half_width(few**-0.5, few) / half_width(more**-0.5, more)


@dataclass(frozen=True)
class Bias:
    """|E d|^2 over the variance of the full-precision gradient, E|g|^2 - |E g|^2: how much of a mini-batch's own noise
    it would take to turn every step by as much.

    Attributes:
        value: The estimate, unbiased above and below the line, so that it can be negative; NaN for fewer than two
            mini-batches.
        low: Of its 95% interval, by the jackknife over mini-batches and a t-distribution; NaN for fewer than FEWEST.
        high: The other end.
    """

    value: float
    low: float
    high: float


def bias(sketches: Sequence[NDArray[np.float32]], squares: Sequence[float]) -> Bias:
    """The bias of one format and effect: the part of what rounding does to a gradient that does not average out.

    With d_b = g_q - g on mini-batch b, |E d|^2 is the mean of <d_b, d_c> over pairs of different mini-batches.

    Args:
        sketches: What `predictor.gradient.sketches.sketch` gave on each mini-batch.
        squares: |g|^2 on each.

    Source:
        docs/definitions/prediction.md section 7.
    """
    n = len(sketches)
    if n < 2:
        return Bias(math.nan, math.nan, math.nan)
    each, energy = np.asarray(sketches, np.float64), np.asarray(squares, np.float64)
    value = _ratio(each, energy)
    if n < FEWEST:
        return Bias(value, math.nan, math.nan)
    others = np.array([_ratio(np.delete(each, b, 0), np.delete(energy, b)) for b in range(n)])
    error = math.sqrt((n - 1) / n * float(((others - others.mean()) ** 2).sum()))
    return Bias(value, value - half_width(error, n), value + half_width(error, n))


def _ratio(sketches: NDArray[np.float64], squares: NDArray[np.float64]) -> float:
    """|E d|^2 / (E|g|^2 - |E g|^2) from (n, 2, BUCKETS) sketches and |g|^2."""
    n = len(sketches)
    total, own = sketches.sum(0), (sketches**2).sum(2)
    # |sum|^2 less every mini-batch with itself is twice the sum over pairs.
    of_difference, of_gradient = ((total**2).sum(1) - own.sum(0)) / (n * (n - 1))
    variance = float(squares.mean()) - of_gradient
    return float(of_difference / variance) if variance > 0 else math.nan


def paired_interval(own: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float, float]:
    """Mean and 95% t-interval of `own` less `other` over the keys that both have, such as common mini-batches.

    The interval is not a number for fewer than two of them, and the mean neither where there is none.
    """
    common = sorted(own.keys() & other.keys())
    if not common:
        return float("nan"), float("nan"), float("nan")
    return interval(np.array([own[key] - other[key] for key in common]))


def values_to_tell(own: Mapping[int, float], other: Mapping[int, float], least: float = 0.0) -> int | None:
    """How many paired values would tell two means apart, were the mean and the spread of the differences what they are:
    those at which the 95% interval ends at 0. None where it does not reach 0 now, where the difference is at most the
    share `least` of the mean of `own`, or where nothing can be said."""
    common = sorted(own.keys() & other.keys())
    if len(common) < 2:
        return None
    differences = np.array([own[key] - other[key] for key in common])
    mean, spread = abs(float(differences.mean())), float(differences.std(ddof=1))
    count = len(common)
    if half_width(spread / np.sqrt(count), count) < mean or not mean > least * _mean_on(other, own):
        return None
    while half_width(spread / np.sqrt(count), count) >= mean and count < MOST_TO_TELL:
        count = max(count + 1, int(count * 1.1))
    return count


def tied_ranks(values: Sequence[Mapping[int, float]], floor: float = 0.0) -> list[int]:
    """Ranks in the order of values, each a mapping from mini-batches: one shares its group leader's rank while the
    paired 95% interval of the difference holds 0, of which there is none for fewer than two common mini-batches, or the
    mean difference is at most the share `floor` of the leader's mean over these."""
    ranks: list[int] = []
    leader: Mapping[int, float] | None = None
    for place, own in enumerate(values, start=1):
        difference, low, high = (float("nan"),) * 3 if leader is None else paired_interval(own, leader)
        if low <= 0 <= high or abs(difference) <= floor * _mean_on(own, leader or {}):
            ranks.append(ranks[-1])
        else:
            leader = own
            ranks.append(place)
    return ranks


def _mean_on(keys: Mapping[int, float], of: Mapping[int, float]) -> float:
    """The mean of these keys' values; not a number where there are none."""
    found = [of[key] for key in of if key in keys]
    return sum(found) / len(found) if found else float("nan")


@dataclass(frozen=True)
class Agreement:
    """How well one number of each format orders another: rank correlations with 95% intervals.

    Intervals are percentiles of RESAMPLES bootstrap samples.

    Attributes:
        spearman: Spearman's correlation.
        spearman_low: its lower end.
        spearman_high: its upper end.
        kendall: Kendall's correlation.
        kendall_low: its lower end.
        kendall_high: its upper end.
        formats: how many.
    """

    spearman: float
    spearman_low: float
    spearman_high: float
    kendall: float
    kendall_low: float
    kendall_high: float
    formats: int


def rank_correlations(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Spearman's and Kendall's (tau-b); NaN where one side is constant. Without scipy's tests of significance, which
    take most of the time of a bootstrap."""
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return np.nan, np.nan
    # As ranks, since a diverged run's loss is infinite.
    one, other = _ranks(x), _ranks(y)
    above, beside = (np.sign(ranks[:, None] - ranks) for ranks in (one, other))
    kendall = (above * beside).sum() / np.sqrt((above**2).sum() * (beside**2).sum())
    return float(np.corrcoef(one, other)[0, 1]), float(kendall)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 1; equal ones share the mean of their places."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(means[places])


def reliability(by_seed: NDArray[np.float64]) -> float:
    """Of the mean over seeds: Spearman's correlation between two seeds, averaged over pairs, stepped up by
    Spearman-Brown. Its square root is the most that any predictor's correlation can be expected to reach.

    Args:
        by_seed: What each format came to, (formats, seeds); infinite where it diverged.

    Returns:
        At most 1; NaN for fewer than two seeds, where all of one are equal, or where seeds order the other way.
    """
    count = by_seed.shape[1]
    pairs = [rank_correlations(one, other)[0] for one, other in combinations(by_seed.T, 2)]
    mean = float(np.mean(pairs)) if pairs else float("nan")
    left = 1 + (count - 1) * mean
    return count * mean / left if left > 0 or np.isnan(left) else float("nan")


def resamples(
    losses: Sequence[NDArray[np.float64]], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Bootstrap samples: numbers of formats drawn with replacement, and for each the mean of as many of its losses as
    it has, drawn so too."""
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        formats = random.integers(0, len(losses), len(losses))
        yield formats, np.array([losses[i][random.integers(0, len(losses[i]), len(losses[i]))].mean() for i in formats])


def agreement(angles: Sequence[float], losses: Sequence[Sequence[float]], seed: int = 0) -> Agreement:
    """Rank correlation of angles, one a format, with the mean of each format's losses, one a seed; a diverged run's is
    infinite. Formats are drawn with replacement, and for each its seeds.

    NaN where all angles or all losses are equal. Raises ValueError for fewer than 3 formats.
    """
    x, y = np.asarray(angles, np.float64), [np.asarray(row, np.float64) for row in losses]
    if len(x) != len(y) or len(x) < 3:
        raise ValueError(
            f"{len(x)} angles and {len(y)} losses were given; 3 formats or more are needed, with both for each"
        )
    drawn = [rank_correlations(x[formats], means) for formats, means in resamples(y, seed)]
    return _with_intervals(x, np.array([row.mean() for row in y]), drawn)


def agreement_of_pairs(x: NDArray[np.float64], y: NDArray[np.float64], seed: int = 0) -> Agreement:
    """Rank correlation of two numbers of each format; intervals from RESAMPLES draws of formats with replacement.

    NaN where all of one side are equal. Raises ValueError for fewer than 3 formats.
    """
    if len(x) != len(y) or len(x) < 3:
        raise ValueError(f"{len(x)} and {len(y)} numbers were given; 3 formats or more are needed, with both for each")
    random = np.random.default_rng(seed)
    draws = (random.integers(0, len(x), len(x)) for _ in range(RESAMPLES))
    return _with_intervals(x, y, [rank_correlations(x[formats], y[formats]) for formats in draws])


def _with_intervals(x: NDArray[np.float64], y: NDArray[np.float64], drawn: list[tuple[float, float]]) -> Agreement:
    """The correlations of all formats, with the percentiles of those that were drawn."""
    if np.isnan(drawn).all():
        return Agreement(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, len(x))
    spearman, kendall = map(float, rank_correlations(x, y))
    low, high = np.nanpercentile(np.array(drawn), OUTSIDE, axis=0).tolist()
    return Agreement(spearman, low[0], high[0], kendall, low[1], high[1], len(x))


def pareto(points: Iterable[tuple[float, float]]) -> list[int]:
    """The indices of the points, such as (angle, cost), that no other is as good as in both numbers and better in one;
    smaller is better.

    Ascending in the first number. Of equal points only the first is kept. Raises ValueError for NaN.
    """
    given = np.array(list(points), np.float64).reshape(-1, 2)
    if np.isnan(given).any():
        raise ValueError(f"point {int(np.isnan(given).any(1).argmax())} holds NaN; numbers are needed")
    front: list[int] = []
    for index in np.lexsort((given[:, 1], given[:, 0])).tolist():
        if not front or given[index, 1] < given[front[-1], 1]:
            front.append(index)
    return front
