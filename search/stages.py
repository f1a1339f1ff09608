"""Ranking many formats on one workload: screen all, measure a few that lie far apart, race the promising, predict the
rest.

The stages of docs/definitions/prediction.md section 4. Everything that is measured is exact; what is predicted says so,
with an interval.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from enum import StrEnum

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import formats
from formats import Family
from formats.pairs import Candidate
from numeric_formats.progress import Report, quiet
from predictor.attention import other_question
from predictor.columns import NAME
from predictor.constant_scales import lost_to_constant_scales
from predictor.effects import Effect, Points
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.measuring.validity import batch_digest
from predictor.noise import Noise, needs_rounding, observe
from predictor.recipes.noise import observe_operands
from predictor.scheme import Scheme, rules_at
from predictor.surrogate import KINDS, Observation, Surrogate, fit, places, spread
from search.candidates import choose
from search.planning import ANCHOR_MINIBATCHES, ANCHORS, FEW, RankingOptions
from search.race import most_units, order_contenders, rungs_until, settled
from search.settings import RankingSettings, SurrogateCheck, origin_of
from search.table import MeasuredAngles, Ranking, minibatches_to_tell, regret, tabulate, with_gaps, with_gates
from search.yardsticks import measured_yardsticks, weights_alone
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


class _Ended(Exception):
    """The time budget is spent."""


class _Stages:
    """The stages that measure: what has been measured so far, and how much time is left."""

    def __init__(
        self,
        measuring: Measuring,
        candidates: Sequence[Candidate],
        batches: Sequence[object],
        effects: tuple[Effect, ...],
        by: Effect,
        time_budget: float | None,
    ):
        self.measuring, self.candidates, self.batches = measuring, candidates, batches
        self.effects, self.by = effects, by
        self.angles = MeasuredAngles()
        self.gradients = 0
        self.left: dict[int, int] = {}
        self.began = time.monotonic()
        self.until = None if time_budget is None else self.began + time_budget

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
                    raise _Ended

    def screen(self) -> Noise:
        """The noise of all candidates on the first mini-batch, from the store where it is there."""
        self.measuring.report(Stage.SCREEN, 0, 1)
        noise = self._kept_noise()
        self.measuring.report(Stage.SCREEN, 1, 1)
        return noise

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

    def fit(self, effect: Effect, noise: Noise, ratios: NDArray[np.float64]) -> Surrogate:
        """The surrogate of an effect from all measured so far."""
        return fit(effect, noise.kinds, ratios, self.observations(effect), len(self.batches))

    def race(self, noise: Noise, ratios: NDArray[np.float64]) -> None:
        """Measure promising candidates on growing sets of mini-batches; `left` says in which rung one was found to be
        behind."""
        rungs = rungs_until(len(self.batches))
        total, done, before = most_units(rungs), 0, 0
        contenders: tuple[int, ...] = ()
        for number, rung in enumerate(rungs):
            new = range(before, rung.minibatches)
            if not number:
                contenders = self._enter(noise, ratios, rung.contenders, total)
            else:
                units = [(batch, index) for batch in new for index in contenders[: rung.contenders]]
                self.measure(Stage.RACE, units, (self.by,), done, total)
            contenders = contenders[: rung.contenders]
            done += len(contenders) * len(new)
            before = rung.minibatches
            comparisons = len(rungs) * rungs[0].contenders
            standing = order_contenders(contenders, self.angles, self.by, range(before), comparisons)
            self.left |= dict.fromkeys(standing.left, before)
            contenders = tuple(index for index in standing.order if index not in self.left)
            if settled(standing, self.angles, self.by, range(before), comparisons):
                break
        self.measuring.report(Stage.RACE, total, total)

    def _enter(self, noise: Noise, ratios: NDArray[np.float64], count: int, total: int) -> tuple[int, ...]:
        """The most promising, measured on the first mini-batch: predict, measure who is new among the best, and predict
        again."""
        done = 0
        while True:
            mean, _, _ = self.fit(self.by, noise, ratios).predict(ratios, range(len(ratios)))
            best = [int(index) for index in np.argsort(mean, kind="stable")[:count]]
            new = [index for index in best if 0 not in self.angles.of(index, self.by)]
            if not new or done >= 2 * count:
                return tuple(index for index in best if index not in new)
            self.measure(Stage.RACE, [(0, index) for index in new], (self.by,), done, total)
            done += len(new)


def _is_named(entry: Candidate) -> bool:
    return isinstance(entry, formats.ProfileFormat) and entry.family in NAMED


def _anchors(candidates: Sequence[Candidate], ratios: NDArray[np.float64]) -> list[int]:
    """What is measured before the race: the one with the least noise, named formats, and those that stand for the
    rest."""
    least = int(np.argmin(np.nan_to_num(ratios.sum(1), nan=np.inf)))
    named = [index for index, entry in enumerate(candidates) if _is_named(entry)]
    return spread(places(ratios)[0], ANCHORS, [least, *named][:ANCHORS])


def _check_predictable(workload: Workload, noise: Noise, effects: Sequence[Effect]) -> None:
    """ValueError for an effect whose noise the tables cannot show, so that nothing tells one format from another before
    it is measured."""
    for effect in effects:
        if not set(KINDS[effect]) & set(noise.kinds):
            raise ValueError(
                f"effect {effect}: workload {workload.name} rounds no tensor for it in one term, from which it could "
                f"be predicted: rank exhaustively, or at most {FEW} formats"
            )


def rank(
    workload: Workload,
    candidates: Sequence[str | Candidate] | None = None,
    *,
    points: Points | str = Points.DATAFLOW,
    effects: Iterable[str] | None = None,
    by: str | None = None,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exhaustive: bool = False,
    time_budget: float | None = None,
    exact: Sequence[str] = (),
    scheme: Scheme | str | None = None,
    two_terms: bool = True,
    with_cost: bool = False,
    calibration: pd.DataFrame | None = None,
    yardsticks: bool = False,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Report = quiet,
) -> Ranking[RankingSettings]:
    """Rank formats by the angle between quantized and full-precision weight gradients.

    An angle that was measured on all mini-batches is their mean, with its t-interval. Every other one is the
    surrogate's estimate of that mean, which agrees with what was measured of it. KeyboardInterrupt while measuring ends
    it in the same way as the budget, or is raised again where nothing was measured yet.

    Args:
        workload: What is measured.
        candidates: Formats, pairs or names; by default the catalogue's 498.
        points: Where formats are rounded: in data flow, or at the operands of the products of layers with weights, as
            a recipe of that format does (docs/definitions/prediction.md section 1).
        effects: Of E, A and AE, the default, and, only where every candidate is measured, W and WAE. At operands of E
            (dy), A (x), AE, W and WAE, all six, which is the default.
        by: The effect that orders the table, by default E where it is measured, at operands WAE
            (`predictor.effects.usual_effect`).
        minibatches: Over how many common mini-batches angles are averaged; by default 16 (4 where there are at most 24
            candidates; all with exhaustive), or all where there are fewer.
        batch_size: Examples in a mini-batch, by default the workload's.
        exhaustive: Measure every candidate on all mini-batches.
        time_budget: Seconds after which measuring stops with what it has.
        exact: Layers kept in full precision.
        scheme: By which activations and errors are rounded in data flow: `paper` (the default), `current`, `authors`,
            or a `Scheme`.
        two_terms: Whether inputs and last errors are rounded in two terms.
        with_cost: Add the column `gates` (formats/hardware/cost.py).
        calibration: Trainings, as `training.validate` gives them, from which gaps are told beside the bundled ones
            (`predictor.risk`).
        yardsticks: Measure beside them, on few mini-batches, bfloat16, a format known to train, and what the weights of
            the leaders alone would do.
        store: Where exact measurements are found and kept; by default nowhere.
        executor: What measures, by default this process.
        progress: Hears of every step.

    Returns:
        The ranking, best first.

    Raises:
        ValueError: Arguments out of range.
    """
    at, rules = rules_at(points, scheme, two_terms)
    measuring = Measuring(workload, tuple(exact), rules, store, executor or InProcess(), progress, points=at)
    options = RankingOptions(
        effects, by, minibatches, batch_size, exhaustive, time_budget, with_cost, calibration, yardsticks, at
    )
    return rank_chosen(measuring, choose(candidates), options)


def rank_chosen(measuring: Measuring, chosen: Sequence[Candidate], options: RankingOptions) -> Ranking[RankingSettings]:
    """`rank`, of candidates that `choose` gave."""
    wanted, order = options.checked_effects(len(chosen))
    batches = options.batches(measuring.workload, len(chosen))
    stages = _Stages(measuring, chosen, batches, wanted, order, options.time_budget)
    noise, ratios, complete = None, np.empty((0, 0)), True
    try:
        if options.all_measured(len(chosen)):
            everything = [(number, index) for number in range(len(batches)) for index in range(len(chosen))]
            stages.measure(Stage.MEASURE, everything, wanted)
        else:
            noise = stages.screen()
            _check_predictable(measuring.workload, noise, wanted)
            ratios = noise.ratios(chosen)
            anchors, first = _anchors(chosen, ratios), range(min(ANCHOR_MINIBATCHES, len(batches)))
            stages.measure(Stage.ANCHORS, [(number, index) for number in first for index in anchors], wanted)
            stages.race(noise, ratios)
    except KeyboardInterrupt:
        if not stages.angles.by_minibatch:
            raise
        complete = False
    except _Ended:
        complete = False
    surrogates: dict[Effect, Surrogate] = {}
    if noise is not None:
        surrogates = {effect: stages.fit(effect, noise, ratios) for effect in wanted if stages.observations(effect)}
    predicted = {effect: surrogate.predict(ratios, range(len(chosen))) for effect, surrogate in surrogates.items()}
    table = tabulate(chosen, wanted, order, stages.angles, predicted, len(batches))
    notes = lost_to_constant_scales(measuring, chosen, batches[0]) if complete else []
    notes = [*notes, *other_question(measuring.workload.model, measuring.points)]
    risk = options.risk(measuring.scheme)
    beside = options.yardsticks and complete
    if risk is not None:
        table = with_gaps(table, risk)
    if options.with_cost:
        table = with_gates(table, chosen)
    names = [entry.name for entry in chosen]
    settings = RankingSettings(
        **origin_of(measuring, batches, options.batch_size),
        effects=wanted,
        by=order,
        minibatches=len(batches),
        exhaustive=options.exhaustive,
        time_budget=options.time_budget,
        candidates=len(chosen),
        measured=len({index for index, effect in stages.angles.by_minibatch if effect is order}),
        gradients=stages.gradients,
        exhaustive_gradients=len(chosen) * len(batches) * len(wanted),
        regret_at_most=regret(chosen, table, stages.angles, order),
        left_the_race={chosen[index].name: number for index, number in stages.left.items()},
        surrogate={effect: SurrogateCheck(s.held_out, s.widened) for effect, s in surrogates.items()},
        failures=stages.angles.failures,
        complete=complete,
        seconds=time.monotonic() - stages.began,
        formats={entry.name: entry.digest for entry in chosen},
        coverage=None if measuring.checked is None else measuring.checked.sentence,
        gap=None if risk is None else risk.sentence,
        needed=minibatches_to_tell(*(stages.angles.of(names.index(name), order) for name in table[NAME].head(2))),
        notes=tuple(notes),
        yardsticks=measured_yardsticks(measuring, chosen, batches, wanted, order, risk, options.with_cost)
        if beside
        else (),
        weights_alone=weights_alone(measuring, chosen, table, batches)
        if beside and measuring.points is Points.DATAFLOW and not {Effect.W, Effect.WAE} & set(wanted)
        else {},
    )
    return Ranking(table, order, complete, settings)
