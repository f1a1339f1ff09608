"""What is measured in the time that a policy leaves: the first formats of the table, on all mini-batches.

First the leading places, mini-batch by mini-batch; then those that follow, a few at a time, each on all mini-batches,
so that its angle is a mean and no estimate any more. What the surrogate is fitted to stays what it was: the time that a
fit takes grows with the third power of its observations, and formats measured on all mini-batches need none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from predictor.measuring.executors import InProcess
from search.front import FRONT
from search.pacing import Ended, Pace
from search.race import PLACES
from search.stages import Stage, Stages

TOGETHER = 24
"""How many formats are measured at a time at most: a mini-batch is opened once for them."""


def in_time(stages: Stages, beside: bool) -> Iterator[Stage]:
    """Measure by the best policy that ends in the time left (`Stages.in_time`), then the first formats on more
    mini-batches until the time is over, but for what follows all measuring; a table can be made after each step. Where
    nothing was measured there are no leaders yet.

    `stages.unspent` says why there is time left. beside: whether yardsticks follow.
    """
    yield from stages.in_time(beside)
    pace = stages.pace
    assert pace is not None  # since then
    if not stages.angles.by_minibatch:
        cheapest = pace.seconds(FRONT[1], len(stages.batches), 0, False)
        stages.unspent = f"measuring anything takes about {cheapest:.2g} s"
        return
    own = _Leaders(stages, pace, beside)
    try:
        yield from own.settle(stages.order(stages.by)[:PLACES])
        while not stages.unspent:
            yield from own.follow()
    except Ended:
        if stages.watch.left < 0:
            raise


class _Leaders:
    """Measures leaders, and knows what that takes."""

    def __init__(self, stages: Stages, pace: Pace, beside: bool):
        self.stages, self.pace, self.beside = stages, pace, beside

    @property
    def _left(self) -> float:
        """Seconds for measuring."""
        return self.stages.watch.left - self.pace.end(self.beside)

    def settle(self, leaders: list[int]) -> Iterator[Stage]:
        """Measure these on twice as many mini-batches each time, or as many as there is time for."""
        count, reached = len(self.stages.batches), 1
        while reached < count:
            for most in range(min(2 * reached, count), reached, -1):
                missing = self._missing(leaders, most)
                if not missing or self._takes(missing) <= self._left:
                    break
            else:
                return
            reached = most
            if missing:
                yield from self._measured(missing, fitted=True)

    def follow(self) -> Iterator[Stage]:
        """Measure those that follow, as many as there is time for."""
        stages, count = self.stages, len(self.stages.batches)
        waiting = [index for index in stages.order(stages.by) if self._missing([index], count)]
        if not waiting:
            stages.unspent = f"all {len(stages.candidates)} formats are measured on all {count} mini-batches"
            return
        chosen: list[int] = []
        for index in waiting[:TOGETHER]:
            if self._takes(self._missing([*chosen, index], count)) > self._left:
                break
            chosen.append(index)
        if not chosen:
            one = self._takes(self._missing(waiting[:1], count)) + self.pace.end(self.beside)
            stages.unspent = f"one format more on all {count} mini-batches takes about {one:.2g} s"
            return
        yield from self._measured(self._missing(chosen, count), fitted=False)

    def _missing(self, formats: list[int], minibatches: int) -> list[tuple[int, int]]:
        of = {index: self.stages.angles.of(index, self.stages.by) for index in formats}
        return [(number, index) for number in range(minibatches) for index in formats if number not in of[index]]

    def _takes(self, units: list[tuple[int, int]]) -> float:
        """Seconds, with a table."""
        openings = len({number for number, _ in units})
        return openings * self.pace.opening + len(units) * self.pace.unit + self.pace.table

    def _measured(self, units: list[tuple[int, int]], fitted: bool) -> Iterator[Stage]:
        """Measure units, and correct the pace. fitted: whether the surrogate is fitted to them."""
        stages, openings = self.stages, len({number for number, _ in units})
        began, before = stages.watch.spent, stages.seconds
        with stages.watch.keeping(self.pace.end(self.beside)):
            stages.measure_leaders(units, fitted)
        wall = stages.watch.spent - began
        alone = isinstance(stages.measuring.executor, InProcess)
        self.pace = self.pace.followed(openings, len(units), wall, stages.seconds - before if alone else 0.0)
        began = stages.watch.spent
        yield Stage.LEADERS
        self.pace = replace(self.pace, table=stages.watch.spent - began)
