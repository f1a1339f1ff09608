"""Racing: formats run over common mini-batches in growing rungs, and those that are significantly behind leave.

All formats see the same mini-batches in the same order, so they are compared by paired differences. A format leaves
when it is behind the last of the leading places by more than chance explains. The test is a one-sided moderated t-test
(G. Smyth, "Linear models and empirical Bayes methods", Stat. Appl. Genet. Mol. Biol. 3, 2004, section 4): the variance
of a format's own differences is drawn towards that of all formats, since two or four mini-batches say little about a
variance. Bonferroni's correction counts every comparison that a race can make: contenders times rungs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from predictor.effects import Effect
from predictor.estimate.surrogate import to_scale
from predictor.statistics import CONFIDENCE
from search.table import MeasuredAngles

PLACES = 10
"""How many leading places a race settles."""
PRIOR_DEGREES = 4.0
"""Degrees of freedom that the variance of all formats counts in that of one."""


@dataclass(frozen=True)
class Standing:
    """Who is left after a rung.

    Attributes:
        order: Contenders, best first.
        left: Those that are significantly behind, in that order.
        p_values: Of being no worse than the last leading place, for every contender in `order` (1 for the leaders),
            uncorrected.
    """

    order: tuple[int, ...]
    left: tuple[int, ...]
    p_values: tuple[float, ...]


def order_contenders(
    contenders: Sequence[int],
    angles: MeasuredAngles,
    by: Effect,
    minibatches: Sequence[int],
    comparisons: int,
    places: int = PLACES,
) -> Standing:
    """Order formats that were measured on the same mini-batches and say which are significantly behind the place
    `places`.

    comparisons: by which the significance level 1 - CONFIDENCE is divided. Differences are those of log tan^2:
    relative, like the spread of angles.
    """
    z = to_scale(np.array([[angles.of(index, by)[number] for number in minibatches] for index in contenders]))
    means = z.mean(1)
    order = np.argsort(means, kind="stable")
    ranked = tuple(contenders[i] for i in order)
    if z.shape[1] < 2 or len(contenders) <= places:
        return Standing(ranked, (), (1.0,) * len(ranked))
    reference = z[order[places - 1]]
    differences = z - reference
    residuals = differences - differences.mean(1, keepdims=True)
    degrees = z.shape[1] - 1
    own = (residuals**2).sum(1) / degrees
    others = [i for i in range(len(contenders)) if i != order[places - 1]]
    pooled = own[others].mean()
    moderated = (PRIOR_DEGREES * pooled + degrees * own) / (PRIOR_DEGREES + degrees)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = differences.mean(1) / np.sqrt(moderated / z.shape[1])
    p = np.where(
        differences.mean(1) > 0, stdtr(PRIOR_DEGREES + degrees, -np.nan_to_num(t, nan=0.0, posinf=np.inf)), 1.0
    )
    p[order[:places]] = 1.0
    left = tuple(contenders[i] for i in order if p[i] < (1 - CONFIDENCE) / comparisons)
    return Standing(ranked, left, tuple(float(p[i]) for i in order))


def settled(
    standing: Standing, angles: MeasuredAngles, by: Effect, minibatches: Sequence[int], comparisons: int
) -> bool:
    """Whether the leading places have their members, and the first place one winner."""
    if len(standing.order) - len(standing.left) > PLACES or len(minibatches) < 2:
        return False
    first = order_contenders(standing.order, angles, by, minibatches, comparisons, places=1)
    return len(first.left) == len(standing.order) - 1
