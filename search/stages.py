"""Ranking many formats on one workload: screen all, measure a few that lie far apart, race the promising, predict the
rest.

The stages of docs/definitions/prediction.md section 4. Everything that is measured is exact; what is predicted says so,
with an interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

import formats
from formats import Family
from formats.hardware.cost import gates_of
from formats.pairs import Candidate
from predictor.device import device_of
from predictor.effects import DEFAULT_EFFECTS, Effect, check_effects
from predictor.gradients import Gradients
from predictor.measuring.context import batch_digest, context_of
from predictor.measuring.executors import Executor
from predictor.measuring.session import measured
from predictor.measuring.store import Store
from predictor.measuring.units import Subject, Unit, check_minibatches, measure_unit
from predictor.noise import Noise, needs_rounding, observe
from predictor.surrogate import KINDS, Observation, Surrogate, fit, places, spread
from search.candidates import choose
from search.race import RUNGS, compare, most_units, rungs_until, settled
from search.table import Angles, Ranking, regret, tabulate
from workloads.digest import digest, weights_digest
from workloads.workload import Workload

FEW = 24
"""So many candidates are all measured; more are raced."""
ANCHORS = 22
"""How many formats are measured before the race, for every effect: named ones, and others that stand for all."""
ANCHOR_MINIBATCHES = 2
MINIBATCHES_OF_FEW = 4
NAMED = (Family.INT, Family.FP)


class Stage(StrEnum):
    """What a ranking is doing."""

    SCREEN = "screen"
    ANCHORS = "anchors"
    RACE = "race"
    MEASURE = "measure"


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `done` of `total` mini-batches screened, or formats times mini-batches measured. A race's
    total is the most it can take."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True)
class Plan:
    """What a ranking is going to do, for `--dry-run`.

    points: on the network. candidates: how many, of which `measured` at most get an exact angle. minibatches: the most
    that a format is measured on.
    gradients: quantized gradients to compute at most; exhaustive: how many a measurement of every candidate takes.
    seconds: estimate, from one format measured on the first mini-batch.
    """

    points: int
    candidates: int
    measured: int
    minibatches: int
    gradients: int
    exhaustive: int
    seconds: float


def _quiet(_: Progress) -> None:
    return None


class _Ended(Exception):
    """The time budget is spent."""


class _Run:
    """The measuring part of a ranking: what has been measured so far, and how much time is left."""

    def __init__(
        self,
        workload: Workload,
        candidates: Sequence[Candidate],
        batches: Sequence[object],
        effects: tuple[Effect, ...],
        by: Effect,
        time_budget: float | None,
        progress: Callable[[Progress], None],
        options: dict[str, Any],
        store: Store | None,
        executor: Executor | None,
    ):
        self.workload, self.candidates, self.batches = workload, candidates, batches
        self.effects, self.by, self.progress, self.options = effects, by, progress, options
        self.store, self.executor = store, executor
        self.angles = Angles()
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
            self.progress(Progress(stage, done, total))
        for found in measured(
            self.workload,
            self.candidates,
            self.batches,
            effects,
            units=new,
            store=self.store,
            executor=self.executor,
            **self.options,
        ):
            self.angles.add(found)
            self.gradients += 1
            if found.effect is effects[-1]:
                done += 1
                self.progress(Progress(stage, done, total))
                if self.until is not None and time.monotonic() > self.until:
                    raise _Ended

    def screen(self) -> Noise:
        """The noise of all candidates on the first mini-batch, from the store where it is there."""
        self.progress(Progress(Stage.SCREEN, 0, 1))
        context, batch = context_of(Subject(self.workload, **self.options)), batch_digest(self.batches[0])
        what = f"noise {digest(sorted(needs_rounding(self.candidates)))}"
        kept = None if self.store is None else self.store.get_record(context, batch, what)
        if kept is not None:
            noise = Noise.from_bytes(kept)
        else:
            with Gradients(self.workload, self.batches[0], **self.options) as gradients:
                noise = observe(gradients, self.candidates)
            if self.store is not None:
                self.store.put_record(context, batch, what, noise.to_bytes())
        self.progress(Progress(Stage.SCREEN, 1, 1))
        return noise

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
            standing = compare(contenders, self.angles, self.by, range(before), comparisons)
            self.left |= dict.fromkeys(standing.left, before)
            contenders = tuple(index for index in standing.order if index not in self.left)
            if settled(standing, self.angles, self.by, range(before), comparisons):
                break
        self.progress(Progress(Stage.RACE, total, total))

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


def plan(
    workload: Workload,
    candidates: Sequence[str | Candidate] | None = None,
    *,
    effects: Iterable[str] = DEFAULT_EFFECTS,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exhaustive: bool = False,
) -> Plan:
    """What `rank` with these arguments would do, and about how long it would take."""
    chosen, wanted = choose(candidates), check_effects(effects)
    all_measured = exhaustive or len(chosen) <= FEW
    batches = check_minibatches(workload, minibatches, batch_size, _default(exhaustive, len(chosen)))
    began = time.monotonic()
    with Gradients(workload, batches[0]) as gradients:
        shared = time.monotonic() - began
        points = len(gradients.flow.points)
        seconds = []
        # The first time compiles what is not in the cache.
        for timed in (wanted, wanted, wanted[-1:]):
            began = time.monotonic()
            measure_unit(gradients, Unit(0, 0, timed), chosen[0])
            seconds.append(time.monotonic() - began)
    _, each, each_of_race = seconds
    whole = len(chosen) * len(batches)
    if all_measured:
        return Plan(
            points,
            len(chosen),
            len(chosen),
            len(batches),
            whole * len(wanted),
            whole * len(wanted),
            len(batches) * shared + whole * each,
        )
    race, anchors = most_units(rungs_until(len(batches))), ANCHORS * min(ANCHOR_MINIBATCHES, len(batches))
    return Plan(
        points,
        len(chosen),
        min(ANCHORS + RUNGS[0].contenders, len(chosen)),
        len(batches),
        anchors * len(wanted) + race,
        whole * len(wanted),
        (len(batches) + 4) * shared + anchors * each + race * each_of_race,
    )


def _check_rows(workload: Workload, noise: Noise, effects: Sequence[Effect]) -> None:
    """ValueError for an effect whose noise the tables cannot show, so that nothing tells one format from another before
    it is measured."""
    for effect in effects:
        if not set(KINDS[effect]) & set(noise.kinds):
            raise ValueError(
                f"effect {effect}: workload {workload.name} rounds no tensor for it in one term, from which it could be predicted: rank "
                f"exhaustively, or at most {FEW} formats"
            )


def _default(exhaustive: bool, candidates: int) -> int | None:
    """Mini-batches where no number was given."""
    if exhaustive:
        return None
    return MINIBATCHES_OF_FEW if candidates <= FEW else RUNGS[-1].minibatches


def rank(
    workload: Workload,
    candidates: Sequence[str | Candidate] | None = None,
    *,
    effects: Iterable[str] = DEFAULT_EFFECTS,
    by: str | None = None,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exhaustive: bool = False,
    time_budget: float | None = None,
    exact: Sequence[str] = (),
    two_terms: bool = True,
    with_cost: bool = False,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = _quiet,
) -> Ranking:
    """Rank formats by the angle between quantized and full-precision weight gradients.

    candidates: formats, pairs or names; by default the catalogue's 498. effects: of E, A and AE, and, only where every
    candidate is measured, W and WAE. by: the effect that orders the table, by default AE where it is measured.
    minibatches: over how many common mini-batches angles are averaged; by default 16 (4 where there are at most 24
    candidates; all with exhaustive), or all where there are fewer. exhaustive: measure every candidate on all of them.
    time_budget: seconds after which measuring stops with what it has. with_cost: add the column `gates`
    (formats/hardware/cost.py). store: where exact measurements are found and kept. executor: what measures, by default
    this process.

    An angle that was measured on all mini-batches is their mean, with its t-interval. Every other one is the
    surrogate's estimate of that mean, which agrees with what was measured of it. KeyboardInterrupt while measuring ends
    it in the same way as the budget, or is raised again where nothing was measured yet. Raises ValueError for arguments
    out of range.
    """
    chosen, wanted = choose(candidates), check_effects(effects)
    usual = Effect.AE if Effect.AE in wanted else wanted[-1]
    order = check_effects([by])[0] if by is not None else usual
    if order not in wanted:
        raise ValueError(
            f"a ranking by {order} needs that effect among the measured ones, which are {', '.join(wanted)}"
        )
    if time_budget is not None and time_budget <= 0:
        raise ValueError(f"time budget {time_budget} s: a positive number of seconds is needed")
    all_measured = exhaustive or len(chosen) <= FEW
    for effect in wanted:
        if effect not in KINDS and not all_measured:
            raise ValueError(
                f"effect {effect} is measured, never predicted: rank exhaustively, or at most {FEW} formats"
            )
    batches = check_minibatches(workload, minibatches, batch_size, _default(exhaustive, len(chosen)))
    options: dict[str, Any] = {"exact": exact, "two_terms": two_terms}
    run = _Run(workload, chosen, batches, wanted, order, time_budget, progress, options, store, executor)
    noise, ratios, complete = None, np.empty((0, 0)), True
    try:
        if all_measured:
            run.measure(
                Stage.MEASURE,
                [(number, index) for number in range(len(batches)) for index in range(len(chosen))],
                wanted,
            )
        else:
            noise = run.screen()
            _check_rows(workload, noise, wanted)
            ratios = noise.ratios(chosen)
            anchors, first = _anchors(chosen, ratios), range(min(ANCHOR_MINIBATCHES, len(batches)))
            run.measure(Stage.ANCHORS, [(number, index) for number in first for index in anchors], wanted)
            run.race(noise, ratios)
    except KeyboardInterrupt:
        if not run.angles.by_minibatch:
            raise
        complete = False
    except _Ended:
        complete = False
    surrogates: dict[Effect, Surrogate] = {}
    if noise is not None:
        surrogates = {effect: run.fit(effect, noise, ratios) for effect in wanted if run.observations(effect)}
    predicted = {effect: surrogate.predict(ratios, range(len(chosen))) for effect, surrogate in surrogates.items()}
    table = tabulate(chosen, wanted, order, run.angles, predicted, len(batches))
    if with_cost:
        by_name = {entry.name: gates_of(entry) for entry in chosen}
        table["gates"] = table["name"].map(by_name)
    settings: dict[str, Any] = {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "device": str(device_of(workload)),
        "data": digest(list(batches)),
        "effects": [effect.value for effect in wanted],
        "by": order.value,
        "minibatches": len(batches),
        "batch_size": batch_size if batch_size is not None or not callable(workload.batches) else workload.batch_size,
        "exhaustive": exhaustive,
        "time_budget": time_budget,
        "exact": list(exact),
        "two_terms": two_terms,
        "candidates": len(chosen),
        "measured": len({index for index, effect in run.angles.by_minibatch if effect is order}),
        "gradients": run.gradients,
        "exhaustive_gradients": len(chosen) * len(batches) * len(wanted),
        "regret_at_most": regret(chosen, table, run.angles, order),
        "left_the_race": {chosen[index].name: number for index, number in run.left.items()},
        "surrogate": {effect.value: {"held_out": s.held_out, "widened": s.widened} for effect, s in surrogates.items()},
        "failures": run.angles.failures,
        "complete": complete,
        "seconds": time.monotonic() - run.began,
        "formats": {entry.name: entry.digest for entry in chosen},
    }
    return Ranking(table, order, complete, settings)
