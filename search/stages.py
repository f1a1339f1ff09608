"""The stages in which many formats are measured: screen all, measure a few that lie far apart, race the promising.

Section 4 of docs/definitions/prediction.md. After each stage everything is there for a table, each better than the one
before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray

import formats
from formats import Family
from formats.pairs import Candidate
from predictor.effects import Effect, Points
from predictor.estimate.prior import expected
from predictor.estimate.surrogate import KINDS, Observation, Surrogate, fit, places, spread
from predictor.gradient.noise import Noise, needs_rounding, observe
from predictor.measuring.executors import InProcess
from predictor.measuring.session import Measuring
from predictor.measuring.validity import Context, batch_digest
from predictor.recipes.noise import observe_operands
from search.front import SCREEN, SCREEN_ALONE, Tried
from search.pacing import Pace, Watch, best_within
from search.planning import FEW
from search.policy import Policy, Rung, most_units
from search.race import order_contenders, settled
from search.table import MeasuredAngles
from workloads.digests import digest
from workloads.workload import Workload

NAMED = (Family.INT, Family.FP)


class Stage(StrEnum):
    """What a ranking is doing. Units of progress: mini-batches screened, or formats times mini-batches measured; a
    race's total is the most that it can take. LEADERS is what is measured in the time that a race leaves."""

    SCREEN = "screen"
    ANCHORS = "anchors"
    RACE = "race"
    LEADERS = "leaders"
    MEASURE = "measure"


class Stages:
    """The stages that measure: what has been measured so far, and by which policy.

    Attributes:
        angles: what was measured.
        gradients: how many of them.
        seconds: what they took by themselves, when they were measured.
        left: after how many mini-batches of the race a candidate was found to be behind.
        noise: of all candidates, once they were screened.
        ratios: the same as noise-to-signal ratios, (candidates, rows).
        reached: the last stage that has been finished; None before the first.
        policy: by which they measure; None before that is known, and where everything is measured.
        beyond: how many gradients were measured after those of the policy.
        unspent: why measuring ended before the time was over; empty where nobody said how long it may take.
        watch: knows how much time is left, after which `Ended` is raised.
        pace: what things took, once `in_time` is through.
    """

    def __init__(
        self,
        measuring: Measuring,
        candidates: Sequence[Candidate],
        batches: Sequence[object],
        effects: tuple[Effect, ...],
        by: Effect,
        watch: Watch | None = None,
    ):
        self.measuring, self.candidates, self.batches = measuring, candidates, batches
        self.effects, self.by = effects, by
        self.angles = MeasuredAngles()
        self.gradients = 0
        self.left: dict[int, int] = {}
        self.noise: Noise | None = None
        self.ratios: NDArray[np.float64] = np.empty((0, 0))
        self.reached: Stage | None = None
        self.policy: Policy | None = None
        self.beyond, self.unspent = 0, ""
        self.pace: Pace | None = None
        self.watch = watch or Watch()
        self.seconds = 0.0
        self._apart: set[tuple[int, int]] = set()
        self._fitted: dict[Effect, tuple[list[Observation], Surrogate]] = {}

    def everything(self) -> Iterator[Stage]:
        """Measure every candidate on all mini-batches; a table can be made after 1, 2, 4, ... of them."""
        total, first = len(self.batches) * len(self.candidates), 0
        while first < len(self.batches):
            last = min(max(1, 2 * first), len(self.batches))
            units = [(number, index) for number in range(first, last) for index in range(len(self.candidates))]
            self.measure(Stage.MEASURE, units, self.effects, first * len(self.candidates), total)
            first, self.reached = last, Stage.MEASURE
            yield Stage.MEASURE

    def promising(self, policy: Policy) -> Iterator[Stage]:
        """Screen all, measure anchors, and race; a table can be made after each stage, and after each rung."""
        self.policy = policy
        self.screen()
        yield Stage.SCREEN
        if policy.anchors:
            units = self._anchors(policy)
            for_all = [unit for unit in units if unit[0] < policy.on(len(self.batches))[1]]
            self.measure(Stage.ANCHORS, for_all, self.effects, 0, len(units))
            self.measure(Stage.ANCHORS, units[len(for_all) :], (self.by,), len(for_all), len(units))
            self.reached = Stage.ANCHORS
            yield Stage.ANCHORS
        yield from self._raced(policy)

    def in_time(self, beside: bool) -> Iterator[Stage]:
        """The same by the best policy that ends in the time left, chosen by what a gradient and the screen take, and
        again by what the anchors and the race took, which `pace` then says. beside: whether yardsticks follow.

        Raises ValueError where there is not even time for the screen, after one gradient.
        """
        gradient = self._timed_gradient()
        began = self.watch.spent
        known = self._noise_in_store() is not None
        if not known:
            self._check_time_of_screen(SCREEN * gradient / self.measuring.parts)
        self.screen()
        if not known:  # the first gradient of a process is slow
            gradient = min(gradient, (self.watch.spent - began) / SCREEN * self.measuring.parts)
        kept = self.measuring.points is Points.DATAFLOW and self.measuring.parts == 1
        pace = Pace.guessed(gradient, self.effects, self.by, kept)
        began = self.watch.spent
        yield Stage.SCREEN
        pace = replace(pace, table=self.watch.spent - began)
        finished, anchored, raced = SCREEN_ALONE, 0, 0
        self.policy = finished.policy
        while (tried := self._best(pace, anchored, raced, beside)).units > finished.units:
            units = self._anchors(tried.policy)
            if len(units) > anchored:
                self.policy = replace(tried.policy, rungs=())
                pace = self._measured_anchors(units, anchored, pace)
                anchored, self.reached = len(units), Stage.ANCHORS
                began = self.watch.spent
                yield Stage.ANCHORS
                pace = replace(pace, table=self.watch.spent - began)
                continue  # what they took decides what follows
            before, anchors = self.gradients, self.policy
            self.policy = replace(anchors, rungs=tried.policy.rungs, entries=tried.policy.entries)
            yield from self._raced(self.policy)
            raced, finished = raced + self.gradients - before, tried
        self.pace = pace

    def _timed_gradient(self) -> float:
        """Seconds of one full-precision gradient of the first mini-batch."""
        began = self.watch.spent
        pointed = self.measuring.points is Points.DATAFLOW
        with self.measuring.gradients(self.batches[0], kept=False, pointed=pointed):
            return self.watch.spent - began

    def _check_time_of_screen(self, needed: float) -> None:
        limit = self.watch.limit
        if limit is not None and needed > self.watch.left:
            raise ValueError(
                f"time {limit:g} s is too short for workload {self.measuring.workload.name}, whose screen alone takes "
                f"about {needed:.2g} s, {SCREEN:g} full-precision gradients: give more, or smaller mini-batches"
            )

    def _best(self, pace: Pace, anchored: int, raced: int, beside: bool) -> Tried:
        return best_within(self.watch.left, pace, len(self.batches), anchored, raced, beside)

    def _measured_anchors(self, units: Sequence[tuple[int, int]], anchored: int, pace: Pace) -> Pace:
        """Measure those that are not yet; the pace, corrected by what that took."""
        began, before = self.watch.spent, self.seconds
        self.measure(Stage.ANCHORS, units, self.effects)
        alone = isinstance(self.measuring.executor, InProcess)
        spent = self.seconds - before if alone else None
        openings = len({number for number, _ in units})
        return pace.corrected(openings, len(units) - anchored, self.watch.spent - began, spent)

    def _anchors(self, policy: Policy) -> list[tuple[int, int]]:
        """(Mini-batch, candidate) pairs that are measured before the race; more of them begin with the fewer."""
        anchors = _anchors(self.candidates, self.ratios, policy.anchors) if policy.anchors else []
        first = range(min(policy.anchor_minibatches, len(self.batches)))
        return [(number, index) for number in first for index in anchors]

    def _raced(self, policy: Policy) -> Iterator[Stage]:
        for _ in self._race(policy):
            self.reached = Stage.RACE
            yield Stage.RACE

    def measure(
        self,
        stage: Stage,
        units: Sequence[tuple[int, int]],
        effects: tuple[Effect, ...],
        before: int = 0,
        total: int = 0,
    ) -> None:
        """Measure (mini-batch, candidate) pairs that are not yet; `before` of `total` units of the stage are done
        already."""
        new = [
            (number, index)
            for number, index in units
            if any(number not in self.angles.of(index, effect) for effect in effects)
        ]
        done, total = before + len(units) - len(new), total or len(units)
        if units:
            self.measuring.report(stage, done, total)
        for found in self.measuring.measured(self.candidates, self.batches, effects, new):
            self.angles.add(found)
            self.gradients += 1
            self.seconds += found.seconds
            if found.effect is effects[-1]:
                done += 1
                self.measuring.report(stage, done, total)
                self.watch.check()

    def measure_leaders(self, units: Sequence[tuple[int, int]], fitted: bool) -> None:
        """Measure (mini-batch, candidate) pairs for the effect that orders, beyond what the policy says. fitted:
        whether the surrogate is fitted to them, which then takes longer."""
        if not fitted:
            self._apart |= set(units)
        before = self.gradients
        try:
            self.measure(Stage.LEADERS, units, (self.by,))
        finally:
            self.beyond += self.gradients - before
        self.reached = Stage.LEADERS

    def screen(self) -> None:
        """Read the noise of all candidates on the first mini-batch, from the store where it is there.

        Raises ValueError for an effect whose noise cannot be seen.
        """
        self.measuring.report(Stage.SCREEN, 0, 1)
        noise = self._kept_noise()
        _check_predictable(self.measuring.workload, noise, self.effects)
        self.ratios = noise.ratios(self.candidates)
        self.noise, self.reached = noise, Stage.SCREEN
        self.measuring.report(Stage.SCREEN, 1, 1)

    def _kept_noise(self) -> Noise:
        kept = self._noise_in_store()
        if kept is not None:
            return kept
        noise = self._observed(self.batches[0])
        if self.measuring.store is not None:
            self.measuring.store.put_record(*self._record_of_noise(), noise.to_bytes())
        return noise

    def _noise_in_store(self) -> Noise | None:
        store = self.measuring.store
        return None if store is None else store.get_record(*self._record_of_noise(), Noise.from_bytes)

    def _record_of_noise(self) -> tuple[Context, str, str]:
        # This process observes, whatever executor measures.
        context = self.measuring.context(torch.get_num_threads())
        where = "" if self.measuring.points is Points.DATAFLOW else f" at {self.measuring.points}"
        what = f"noise{where} {digest(sorted(needs_rounding(self.candidates)))}"
        return context, batch_digest(self.batches[0]), what

    def _observed(self, batch: object) -> Noise:
        with self.measuring.opened(batch, kept=False) as gradients:
            see = observe if self.measuring.points is Points.DATAFLOW else observe_operands
            return see(gradients, self.candidates)

    def observations(self, effect: Effect) -> list[Observation]:
        """Every exact angle of an effect that surrogates are fitted to; in one order, whatever came first from the
        store or other processes, since sums depend on it."""
        return [
            Observation(index, number, angle)
            for index in range(len(self.candidates))
            for number, angle in sorted(self.angles.of(index, effect).items())
            if (number, index) not in self._apart
        ]

    def surrogates(self, effects: Sequence[Effect]) -> dict[Effect, Surrogate]:
        """What predicts these effects, each fitted to all that was measured of it; without those of which nothing was,
        and none where nothing was screened."""
        if self.noise is None:
            return {}
        found: dict[Effect, Surrogate] = {}
        for effect in effects:
            seen = self.observations(effect)
            if seen and (effect not in self._fitted or self._fitted[effect][0] != seen):
                self._fitted[effect] = seen, fit(effect, self.noise.kinds, self.ratios, seen, len(self.batches))
            if seen:
                found[effect] = self._fitted[effect][1]
        return found

    def order(self, effect: Effect) -> list[int]:
        """All candidates, best first: by the mean of those measured on all mini-batches, the estimate of others."""
        angles = self.predicted(self.surrogates([effect]))[effect][0].copy()
        for index in range(len(self.candidates)):
            own = self.angles.of(index, effect)
            if len(own) == len(self.batches):
                angles[index] = np.mean(list(own.values()))
        return [int(index) for index in np.argsort(angles, kind="stable")]

    def predicted(
        self, surrogates: dict[Effect, Surrogate]
    ) -> dict[Effect, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
        """Angle, low and high of every candidate by effect: of the surrogate, else what noise alone lets expect."""
        if self.noise is None:
            return {}
        everyone = range(len(self.candidates))
        return {
            effect: surrogates[effect].predict(self.ratios, everyone)
            if effect in surrogates
            else expected(effect, self.noise.kinds, self.ratios)
            for effect in self.effects
        }

    def _race(self, policy: Policy) -> Iterator[Rung]:
        """Measure promising candidates on growing sets of mini-batches; `left` says in which rung one was found to be
        behind."""
        rungs = policy.until(len(self.batches))
        total, done, before = most_units(rungs), 0, 0
        contenders: tuple[int, ...] = ()
        for number, rung in enumerate(rungs):
            new = range(before, rung.minibatches)
            if not number:
                contenders = self._enter(rung.contenders, policy.entries, total)
            units = [(batch, index) for batch in new for index in contenders[: rung.contenders]]
            self.measure(Stage.RACE, units, (self.by,), done, total)
            contenders = contenders[: rung.contenders]
            done += len(contenders) * len(new)
            before = rung.minibatches
            comparisons = len(rungs) * rungs[0].contenders
            standing = order_contenders(contenders, self.angles, self.by, range(before), comparisons)
            self.left |= dict.fromkeys(standing.left, before)
            contenders = tuple(index for index in standing.order if index not in self.left)
            yield rung
            if settled(standing, self.angles, self.by, range(before), comparisons):
                break
        self.measuring.report(Stage.RACE, total, total)

    def _enter(self, count: int, entries: float, total: int) -> tuple[int, ...]:
        """The most promising, measured on the first mini-batch: predict, measure who is new among the best, and predict
        again."""
        done = 0
        while True:
            mean = self.predicted(self.surrogates([self.by]))[self.by][0]
            best = [int(index) for index in np.argsort(mean, kind="stable")[:count]]
            new = [index for index in best if 0 not in self.angles.of(index, self.by)]
            if not new or done >= entries * count:
                return tuple(index for index in best if index not in new)
            self.measure(Stage.RACE, [(0, index) for index in new], (self.by,), done, total)
            done += len(new)


def _is_named(entry: Candidate) -> bool:
    return isinstance(entry, formats.ProfileFormat) and entry.family in NAMED


def _anchors(candidates: Sequence[Candidate], ratios: NDArray[np.float64], count: int) -> list[int]:
    """What is measured before the race: the one with the least noise, named formats, and those that stand for the
    rest."""
    least = int(np.argmin(np.nan_to_num(ratios.sum(1), nan=np.inf)))
    named = [index for index, entry in enumerate(candidates) if _is_named(entry)]
    return spread(places(ratios)[0], count, [least, *named][:count])


def _check_predictable(workload: Workload, noise: Noise, effects: Sequence[Effect]) -> None:
    """ValueError for an effect whose noise the tables cannot show, so that nothing tells one format from another before
    it is measured."""
    for effect in effects:
        if not set(KINDS[effect]) & set(noise.kinds):
            raise ValueError(
                f"effect {effect}: workload {workload.name} rounds no tensor for it in one term, from which it could "
                f"be predicted: rank exhaustively, or at most {FEW} formats"
            )
