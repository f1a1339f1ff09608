"""How long a ranking may take, and which policy ends in that time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from predictor.effects import Effect
from search.front import BESIDE, FRONT, SCREEN_ALONE, UNIT, WHOLE, Tried
from search.policy import Policy, most_units

Clock = Callable[[], float]
PLANNED = 0.9
"""The share of the time left that is planned for: units do not all take the same."""


class Ended(Exception):
    """The time is spent."""


class Watch:
    """Knows since when a ranking runs, and how long it may: seconds, or None for as long as it takes."""

    def __init__(self, limit: float | None = None, clock: Clock = time.monotonic):
        self.limit, self._clock, self._began = limit, clock, clock()
        self._kept = 0.0

    @property
    def spent(self) -> float:
        """Seconds since it was made."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds until the limit, below 0 after it; infinite where there is none."""
        return math.inf if self.limit is None else self.limit - self.spent

    def check(self) -> None:
        """Raise Ended after the limit."""
        if self.left < self._kept:
            raise Ended

    @contextmanager
    def keeping(self, seconds: float) -> Iterator[None]:
        """Inside, so many seconds are kept of the time: `check` ends it before they are begun."""
        before, self._kept = self._kept, seconds
        try:
            yield
        finally:
            self._kept = before


@dataclass(frozen=True)
class Pace:
    """How many seconds things take.

    Attributes:
        opening: Opening a mini-batch.
        unit: A format on one, for the effect that orders.
        anchor: A format on one, for all effects.
        table: What is done with a table after a stage.
    """

    opening: float
    unit: float
    anchor: float
    table: float = 0.0

    @classmethod
    def guessed(cls, gradient: float, effects: Sequence[Effect], by: Effect, kept: bool) -> Pace:
        """From the seconds of a full-precision gradient. kept: whether E repeats its backward pass alone."""
        each = {effect: gradient * (UNIT if effect is Effect.E and kept else WHOLE) for effect in effects}
        return cls(gradient, each[by], sum(each.values()))

    def corrected(self, openings: int, units: int, wall: float, spent: float | None) -> Pace:
        """The same after so many units of anchors. wall: seconds in all. spent: those of the units by themselves,
        whether they were measured now or are from the store; None where other processes measured."""
        if not units:
            return self
        found = self
        if spent is not None:
            factor = spent / (units * self.anchor)
            found = replace(self, unit=self.unit * factor, anchor=self.anchor * factor)
        slower = wall / (openings * found.opening + units * found.anchor)
        if spent is not None:
            slower = max(1.0, slower)  # less than that was in the store
        return replace(found, opening=found.opening * slower, unit=found.unit * slower, anchor=found.anchor * slower)

    def followed(self, openings: int, units: int, wall: float, spent: float) -> Pace:
        """The same after so many units for the effect that orders. wall: seconds in all. spent: those of the units by
        themselves, which may have come from the store."""
        factor = max(wall, spent) / (openings * self.opening + units * self.unit)
        return replace(self, opening=factor * self.opening, unit=factor * self.unit)

    def end(self, beside: bool) -> float:
        """Seconds of what follows all measuring: a table and, where they follow, yardsticks."""
        return self.table + (BESIDE * self.opening if beside else 0.0)

    def seconds(self, tried: Tried, minibatches: int, anchored: int, beside: bool, raced: int = 0) -> float:
        """What is left of a policy takes at most. minibatches: that there are. anchored, raced: units of anchors and of
        a race that are measured already. beside: whether yardsticks follow."""
        policy = tried.policy
        anchors = policy.anchors * min(policy.anchor_minibatches, minibatches)
        rungs = policy.until(minibatches)
        race = min(tried.units - policy.anchors * policy.anchor_minibatches, _most_of_race(policy, minibatches))
        race = max(0, race - raced)
        openings = tried.openings - (policy.anchor_minibatches if anchored >= anchors else 0)
        tables = len(rungs) * self.table
        measured = max(0, anchors - anchored) * self.anchor + race * self.unit
        return measured + openings * self.opening + tables + self.end(beside)


def best_within(
    left: float, pace: Pace, minibatches: int, anchored: int = 0, raced: int = 0, beside: bool = False
) -> Tried:
    """The best policy of the front that ends in so many seconds; where nothing can be measured with yardsticks behind
    it, the best without; the screen alone where none does."""
    ends = [t for t in FRONT[1:] if pace.seconds(t, minibatches, anchored, beside, raced) <= PLANNED * left]
    if not ends and beside:
        return best_within(left, pace, minibatches, anchored, raced)
    return ends[-1] if ends else SCREEN_ALONE


def _most_of_race(policy: Policy, minibatches: int) -> int:
    """Units of a race in which no one leaves early, and as many enter as may."""
    rungs = policy.until(minibatches)
    return most_units(rungs) + math.ceil((policy.entries - 1) * rungs[0].contenders) if rungs else 0
