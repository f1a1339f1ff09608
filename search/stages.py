"""The stages in which many formats are measured: screen all, measure a few that lie far apart, race the promising.

Section 4 of docs/definitions/prediction.md. After each stage everything is there for a table, each better than the one
before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray

import formats
from formats import Family
from formats.pairs import Candidate
from predictor.effects import Effect, Points
from predictor.measuring.session import Measuring
from predictor.measuring.validity import batch_digest
from predictor.noise import Noise, needs_rounding, observe
from predictor.prior import expected
from predictor.recipes.noise import observe_operands
from predictor.surrogate import KINDS, Observation, Surrogate, fit, places, spread
from search.planning import FEW
from search.policy import Policy, Rung, most_units
from search.race import order_contenders, settled
from search.table import MeasuredAngles
from workloads.digests import digest
from workloads.workload import Workload

NAMED = (Family.INT, Family.FP)


class Stage(StrEnum):
    """What a ranking is doing. Units of progress: mini-batches screened, or formats times mini-batches measured; a
    race's total is the most that it can take."""

    SCREEN = "screen"
    ANCHORS = "anchors"
    RACE = "race"
    MEASURE = "measure"


class Ended(Exception):
    """The time budget is spent."""


class Stages:
    """The stages that measure: what has been measured so far, and how much time is left.

    Attributes:
        angles: what was measured.
        gradients: how many of them.
        left: after how many mini-batches of the race a candidate was found to be behind.
        noise: of all candidates, once they were screened.
        ratios: the same as noise-to-signal ratios, (candidates, rows).
        reached: the last stage that has been finished; None before the first.
    """

    def __init__(
        self,
        measuring: Measuring,
        candidates: Sequence[Candidate],
        batches: Sequence[object],
        effects: tuple[Effect, ...],
        by: Effect,
        time_budget: float | None = None,
    ):
        self.measuring, self.candidates, self.batches = measuring, candidates, batches
        self.effects, self.by = effects, by
        self.angles = MeasuredAngles()
        self.gradients = 0
        self.left: dict[int, int] = {}
        self.noise: Noise | None = None
        self.ratios: NDArray[np.float64] = np.empty((0, 0))
        self.reached: Stage | None = None
        self.began = time.monotonic()
        self.until = None if time_budget is None else self.began + time_budget

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
        self.screen()
        yield Stage.SCREEN
        if policy.anchors:
            anchors = _anchors(self.candidates, self.ratios, policy.anchors)
            first = range(min(policy.anchor_minibatches, len(self.batches)))
            self.measure(Stage.ANCHORS, [(number, index) for number in first for index in anchors], self.effects)
            self.reached = Stage.ANCHORS
            yield Stage.ANCHORS
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
            if found.effect is effects[-1]:
                done += 1
                self.measuring.report(stage, done, total)
                if self.until is not None and time.monotonic() > self.until:
                    raise Ended

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
        store, first = self.measuring.store, self.batches[0]
        if store is None:
            return self._observed(first)
        # This process observes, whatever executor measures.
        context, batch = self.measuring.context(torch.get_num_threads()), batch_digest(first)
        where = "" if self.measuring.points is Points.DATAFLOW else f" at {self.measuring.points}"
        what = f"noise{where} {digest(sorted(needs_rounding(self.candidates)))}"
        kept = store.get_record(context, batch, what, Noise.from_bytes)
        if kept is not None:
            return kept
        noise = self._observed(first)
        store.put_record(context, batch, what, noise.to_bytes())
        return noise

    def _observed(self, batch: object) -> Noise:
        with self.measuring.opened(batch) as gradients:
            see = observe if self.measuring.points is Points.DATAFLOW else observe_operands
            return see(gradients, self.candidates)

    def observations(self, effect: Effect) -> list[Observation]:
        """Every exact angle of an effect so far; in one order, whatever came first from the store or other processes,
        since sums depend on it."""
        return [
            Observation(index, number, angle)
            for index in range(len(self.candidates))
            for number, angle in sorted(self.angles.of(index, effect).items())
        ]

    def surrogates(self, effects: Sequence[Effect]) -> dict[Effect, Surrogate]:
        """What predicts these effects, each fitted to all that was measured of it; without those of which nothing was,
        and none where nothing was screened."""
        if self.noise is None:
            return {}
        observed = {effect: self.observations(effect) for effect in effects}
        return {
            effect: fit(effect, self.noise.kinds, self.ratios, seen, len(self.batches))
            for effect, seen in observed.items()
            if seen
        }

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
