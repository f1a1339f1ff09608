"""How much worse a format will train: its gap to float32, told from trainings of several networks
(docs/definitions/prediction.md section 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from predictor.columns import GAP, NETWORK_NAME, SEED, angle_column
from predictor.effects import DEFAULT_EFFECTS, Effect, Points, usual_effect
from predictor.scheme import PAPER, Scheme
from predictor.statistics import CONFIDENCE, half_width

INDICATORS = DEFAULT_EFFECTS
"""The effects whose angles, over the whole network, can tell the gap; where there are several the usual one does."""
SCHEME = PAPER
"""By which the bundled trainings rounded, and their angles were measured."""
DIVERGED = 3.0
"""The gap that a training which diverged counts with; no other counts with more."""
WITHIN = 0.01
"""The gap up to which a format counts as good as float32 where nobody says another."""
USUAL_PRECISION = "bfloat16"
"""That networks are trained in where no lower one is tried; what others are held against."""
_ANGLE, _OFF = "angle", "off"


@dataclass(frozen=True)
class Risk:
    """The gap as a function of the angle, that never falls, with an interval for one more training.

    Gaps count as log(1 + gap), the logarithm of the loss over that of float32. The function is the isotonic regression
    in which every network weighs the same, from 0 at an angle of 0. Its interval is as wide as it takes for each
    network that was left out: with z what a training lies off the function made of all others, over (scatter + the
    function), it reaches from the lowest to the highest middle of z that the networks have, and beyond by the widest
    95% range about one, for a training from one more seed (`_spread`).

    Attributes:
        indicator: The effect whose angle it is.
        angles: Where the function has its corners, in degrees, from 0.
        levels: log(1 + gap) there.
        scatter: What trainings lie off the function where it is low: the median distance, in log(1 + gap).
        below: How far the interval reaches down, in units of scatter + level.
        above: How far up.
        networks: What was trained.
        trainings: How many were.
    """

    indicator: Effect
    angles: NDArray[np.float64]
    levels: NDArray[np.float64]
    scatter: float
    below: float
    above: float
    networks: tuple[str, ...]
    trainings: int

    def gaps(self, angles: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Gap, and the lower and upper end of its 95% interval, of each angle in degrees; NaN where there is none. The
        upper end is infinite where it is that of trainings which diverge, and beyond all angles that were trained; the
        lower one is never below that at an angle of 0."""
        x = np.asarray(angles, np.float64)
        level = np.interp(x, self.angles, self.levels)
        spread = self.scatter + level
        low = np.expm1(np.maximum(level - self.below * spread, -self.below * self.scatter))
        high = np.expm1(level + self.above * spread)
        unknown = (x > self.angles[-1]) | (high >= DIVERGED)
        return np.expm1(level), low, np.where(unknown, np.inf, high)

    def angle_within(self, gap: float) -> float:
        """The largest angle in degrees whose gap is at most this; infinite where all are."""
        level = np.log1p(gap)
        if self.levels[-1] <= level:
            return float("inf")
        above = int(np.argmax(self.levels > level))  # the first corner that lies higher; the one before does not
        x, y = self.angles[above - 1 : above + 1], self.levels[above - 1 : above + 1]
        return float(np.interp(level, y, x))

    @property
    def sentence(self) -> str:
        """What it stands on."""
        names = ", ".join(self.networks)
        whole = f"{self.trainings} trainings of {len(self.networks)} networks ({names}), with 95% intervals"
        return f"gap: told by the angle of {self.indicator} from {whole}"


def bundled_risk(effects: Sequence[str], points: Points, scheme: Scheme | None) -> Risk | None:
    """What the bundled trainings tell of angles that were measured so, by the usual one of the effects that can tell
    it; None where none can, or the angles are of another kind than those of the trainings."""
    able = [effect for effect in effects if effect in INDICATORS]
    if not able or points is not Points.DATAFLOW or scheme is None or not applies_to(scheme):
        return None
    return risk_of(bundled_trainings(), Effect(usual_effect(able)))


class Division(NamedTuple):
    """Where the formats of a table pass a gap: two angles in degrees that are next to each other there.

    Attributes:
        below: The largest angle of a format whose gap is at most that.
        above: The smallest of one whose gap is more.
    """

    below: float
    above: float

    @property
    def middle(self) -> float:
        """Between the two on a logarithmic scale."""
        return float(np.sqrt(self.below * self.above))


def division(table: pd.DataFrame, within: float, indicator: str) -> Division | None:
    """The angles of the indicator that divide the formats of a table by whether their gap is at most `within`; None
    where the table has no gaps, all formats are on one side, or no angle of it divides them, since another effect told
    the gaps."""
    if GAP not in table or angle_column(indicator) not in table:
        return None
    angles, inside = table[angle_column(indicator)], table[GAP] <= within
    below, above = angles[inside].max(), angles[~inside & table[GAP].notna()].min()
    if pd.isna(below) or pd.isna(above) or below > above:
        return None
    return Division(float(below), float(above))


def bundled_trainings() -> pd.DataFrame:
    """The trainings that come with the package (docs/results/prediction.md): network, name, seed, gap, and the angle of
    every effect that was measured, angle_E and so on, under `SCHEME`."""
    with resources.as_file(resources.files("predictor") / "trainings.csv") as path:
        return pd.read_csv(path, dtype={NETWORK_NAME: str, "name": str})


def mean_gaps(trainings: pd.DataFrame) -> pd.Series[float]:
    """By name of the formats that were trained on every network: exp of the mean over networks of the mean of
    log(1 + gap) over trainings, less 1; the smallest first."""
    levels = trainings.assign(level=_logarithm(trainings[GAP])).pivot_table(
        index="name", columns=NETWORK_NAME, values="level", aggfunc="mean"
    )
    return np.expm1(levels.dropna().mean(axis=1)).sort_values()


def risk_of(trainings: pd.DataFrame, indicator: Effect) -> Risk:
    """The risk that trainings tell.

    Args:
        trainings: network, seed, gap (infinite where one diverged) and angle_<indicator> of each; rows without a gap or
            an angle do not count.
        indicator: Whose angle.

    Raises:
        ValueError: Fewer than two networks, of which one could be left out.
    """
    used = _used(trainings, indicator)
    counted = set(used[NETWORK_NAME])
    networks = tuple(name for name in trainings[NETWORK_NAME].unique() if name in counted)  # as they were given
    if len(networks) < 2:
        raise ValueError(
            f"trainings of {len(networks)} network{'s' * (len(networks) != 1)} with an angle of {indicator} and a gap "
            "are there; those of two are needed, of which one can be left out"
        )
    off, level = _left_out(used)
    scatter = float(np.median(np.abs(off[level <= np.median(level)])))
    z = pd.DataFrame({_OFF: off / (scatter + level), SEED: used[SEED].to_numpy()})
    # Another network may lie as one of these does, and its seeds differ as those of any other.
    middles, belows, aboves = zip(*(_spread(own) for _, own in z.groupby(used[NETWORK_NAME].to_numpy())), strict=True)
    corners, levels = _isotonic(used)
    return Risk(
        indicator=indicator,
        angles=corners,
        levels=levels,
        scatter=scatter,
        below=max(0.0, max(belows) - min(middles)),
        above=max(0.0, max(aboves) + max(middles)),
        networks=networks,
        trainings=len(used),
    )


def applies_to(scheme: Scheme) -> bool:
    """Whether angles measured by a scheme, or trainings made by it, are of the kind of the bundled ones."""
    return scheme.measured == SCHEME.measured


def coverage(trainings: pd.DataFrame, indicator: Effect) -> pd.Series[float]:
    """By network: the share of its trainings whose gap lies in the interval that all other networks give, of which
    there have to be two or more."""
    shares = {}
    for network, own in _used(trainings, indicator).groupby(NETWORK_NAME, sort=False):
        others = risk_of(trainings[trainings[NETWORK_NAME] != network], indicator)
        _, low, high = others.gaps(own[_ANGLE].tolist())
        gap = own[GAP].clip(upper=DIVERGED)
        shares[str(network)] = float(((low <= gap) & (gap <= high)).mean())
    return pd.Series(shares, dtype=float)


def _used(trainings: pd.DataFrame, indicator: Effect) -> pd.DataFrame:
    """The trainings that have both, in the order of their angles."""
    column = angle_column(indicator)
    used = trainings[[NETWORK_NAME, SEED, GAP, column]].dropna()
    return used.sort_values([column, NETWORK_NAME], kind="stable").rename(columns={column: _ANGLE})


def _isotonic(used: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of the isotonic regression, from an angle of 0."""
    from scipy.optimize import isotonic_regression  # which takes longer to load than short commands run

    weights = 1 / used.groupby(NETWORK_NAME)[GAP].transform("size")
    table = pd.DataFrame({_ANGLE: used[_ANGLE], "weight": weights, "sum": weights * _logarithm(used[GAP])})
    places = table.groupby(_ANGLE).sum()  # trainings of one angle are one place
    found = isotonic_regression(places["sum"] / places["weight"], weights=places["weight"], increasing=True)
    # Of all functions that never fall and are nowhere negative, this one is the nearest.
    levels = np.maximum(found.x, 0.0)
    return np.array([0.0, *places.index]), np.array([0.0, *levels])


def _left_out(used: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each training lies off the function of all other networks, and that function there."""
    level = np.empty(len(used))
    for network in used[NETWORK_NAME].unique():
        own = (used[NETWORK_NAME] == network).to_numpy()
        level[own] = np.interp(used[_ANGLE][own], *_isotonic(used[~own]))
    return _logarithm(used[GAP]) - level, level


def _spread(z: pd.DataFrame) -> tuple[float, float, float]:
    """Where z of one network lies in the middle, and by how much below and above that with 95% from one more seed. All
    formats share float32's training of a seed, so seeds count, not trainings: the mean of the seeds' means, and the
    root of two squares, of the t-interval of one more seed's mean and of the 95% range of what trainings lie off their
    seed's mean. Of a single seed the mean of others is unknown, and the range alone counts."""
    means = z.groupby(SEED)[_OFF].mean()
    within, tail = z[_OFF] - means.loc[z[SEED]].to_numpy(), (1 - CONFIDENCE) / 2
    low, high = within.quantile(tail, interpolation="lower"), within.quantile(1 - tail, interpolation="higher")
    count, middle = len(means), float(means.mean())
    next_seed = half_width(float(means.std(ddof=1)) * math.sqrt(1 + 1 / count), count) if count > 1 else 0.0
    return middle, math.hypot(next_seed, min(low, 0.0)), math.hypot(next_seed, max(high, 0.0))


def _logarithm(gap: pd.Series[float]) -> NDArray[np.float64]:
    return np.log1p(gap.clip(upper=DIVERGED).to_numpy(np.float64))
