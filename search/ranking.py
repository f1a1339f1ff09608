"""Ranking many formats on one workload: the stages that measure, and after each of them a table; what was not measured
is predicted and says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from formats.hardware.totals import PRODUCTS
from formats.pairs import Candidate
from numeric_formats.progress import Report, quiet
from predictor.attention import other_question
from predictor.columns import GAP, NAME
from predictor.effects import Effect, Points
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.out_of_range import lost_out_of_range
from predictor.risk import INDICATORS, Risk
from predictor.scheme import Scheme, rules_at
from search.candidates import choose
from search.leaders import in_time
from search.pacing import Clock, Ended, Watch
from search.planning import RankingOptions
from search.policy import in_words
from search.settings import RankingSettings, SurrogateCheck, origin_of
from search.stages import Stage, Stages
from search.table import Ranking, minibatches_to_tell, regret, tabulate, with_differences, with_gaps, with_gates
from search.yardsticks import measured_yardsticks, weights_alone
from workloads.workload import Workload

SoFar = Callable[[Ranking[RankingSettings]], None]
"""What hears of every table that a ranking has on its way."""


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
    seconds: float | None = None,
    exact: Sequence[str] = (),
    scheme: Scheme | str | None = None,
    two_terms: bool = True,
    with_cost: bool = False,
    products: int = PRODUCTS,
    calibration: pd.DataFrame | None = None,
    yardsticks: bool = False,
    memory: int | None = None,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Report = quiet,
    so_far: SoFar | None = None,
) -> Ranking[RankingSettings]:
    """Rank formats by the angle between quantized and full-precision weight gradients.

    An angle that was measured on all mini-batches is their mean, with its t-interval. Every other one is the
    surrogate's estimate of that mean, which agrees with what was measured of it. KeyboardInterrupt while measuring ends
    it in the same way as the budget, with the best table so far, or is raised again where there is none yet.

    Args:
        workload: What is measured.
        candidates: Formats, pairs or names; by default the catalogue's 498.
        points: Where formats are rounded: in data flow, or at the operands of the products of layers with weights, as
            a recipe of that format does (docs/definitions/prediction.md section 1).
        effects: Of E, A and AE, and, only where every candidate is measured, W and WAE; by default the one
            that orders the table alone, and all three where there are at most 24 candidates.
            At operands of E (dy), A (x), AE, W and WAE, all six, which is the default.
        by: The effect that orders the table, by default AE where it is measured, which tells best how formats
            train, at operands WAE
            (`predictor.effects.usual_effect`).
        minibatches: Over how many common mini-batches angles are averaged; by default 16 (4 where there are at most 24
            candidates; all with exhaustive), or all where there are fewer.
        batch_size: Examples in a mini-batch, by default the workload's.
        exhaustive: Measure every candidate on all mini-batches.
        time_budget: Seconds after which measuring stops with what it has.
        seconds: In which it is to end instead: by the best policy that replays let expect to
            (docs/definitions/prediction.md section 4); where all candidates are measured it stops then.
        exact: Layers kept in full precision.
        scheme: By which activations and errors are rounded in data flow: `paper` (the default), `current`, `authors`,
            or a `Scheme`.
        two_terms: Whether inputs and last errors are rounded in two terms.
        with_cost: Add the columns of what a multiply-accumulate costs (formats/hardware/totals.py).
        products: In sums of how many products.
        calibration: Trainings, as `training.validate` gives them, from which gaps are told beside the bundled ones
            (`predictor.risk`).
        yardsticks: Measure beside them, on few mini-batches, bfloat16, a format known to train, and what the weights of
            the leaders alone would do.
        memory: Bytes that a process that measures may take: where a mini-batch takes more, its gradients are summed
            over as many micro-batches as it needs (docs/definitions/prediction.md section 2); by default as many as it
            takes.
        store: Where exact measurements are found and kept; by default nowhere.
        executor: What measures, by default this process.
        progress: Hears of every step.
        so_far: Is given the ranking after each stage but the last: estimates from noise alone, then with what was
            measured. What it raises ends the ranking; KeyboardInterrupt as one while measuring.

    Returns:
        The ranking, best first.

    Raises:
        ValueError: Arguments out of range, and fewer seconds than the screen takes.
    """
    at, rules = rules_at(points, scheme, two_terms)
    measuring = Measuring(workload, tuple(exact), rules, store, executor or InProcess(), progress, points=at)
    options = RankingOptions(
        effects,
        by,
        minibatches,
        batch_size,
        exhaustive,
        time_budget,
        with_cost,
        calibration,
        yardsticks,
        at,
        seconds=seconds,
        products=products,
        memory=memory,
    )
    return rank_chosen(measuring, choose(candidates), options, so_far)


def rank_chosen(
    measuring: Measuring,
    chosen: Sequence[Candidate],
    options: RankingOptions,
    so_far: SoFar | None = None,
    clock: Clock = time.monotonic,
) -> Ranking[RankingSettings]:
    """`rank`, of candidates that `choose` gave. clock: gives seconds."""
    wanted, order = options.checked_effects(len(chosen))
    batches = options.batches(measuring.workload, len(chosen))
    measuring = options.in_memory(measuring, batches, wanted)
    stages = Stages(measuring, chosen, batches, wanted, order, Watch(options.limit, clock))
    tables = _Tables(stages, options, options.risk(measuring.scheme, len(chosen)))
    try:
        for _ in _steps(stages, options):
            if so_far is not None:
                so_far(tables.so_far())
        return tables.complete()
    except KeyboardInterrupt:
        if stages.reached is None and not stages.angles.by_minibatch:
            raise
    except Ended:
        pass
    return tables.so_far()


def _steps(stages: Stages, options: RankingOptions) -> Iterator[Stage]:
    if options.all_measured(len(stages.candidates)):
        return stages.everything()
    return stages.promising(options.policy) if options.seconds is None else in_time(stages, options.yardsticks)


def _without_gap(by: Effect, points: Points) -> Iterator[str]:
    if points is Points.DATAFLOW and by not in INDICATORS:
        yield f"no gap is told by {by}: the trainings that tell gaps rounded activations and errors alone"


def _of_parts(parts: int) -> Iterator[str]:
    if parts > 1:
        yield f"each mini-batch was measured in {parts} micro-batches, as --memory asks; scales are of these"


@dataclass(frozen=True)
class _Tables:
    """What makes a ranking of what the stages have measured by now."""

    stages: Stages
    options: RankingOptions
    risk: Risk | None

    def so_far(self) -> Ranking[RankingSettings]:
        """The ranking, that is not complete."""
        stages, options, risk = self.stages, self.options, self.risk
        chosen, batches, order, angles = stages.candidates, stages.batches, stages.by, stages.angles
        surrogates = stages.surrogates(stages.effects)
        table = tabulate(chosen, stages.effects, order, angles, stages.predicted(surrogates), len(batches))
        table = with_differences(table, chosen, order, angles)
        if risk is not None and angles.by_minibatch:  # nothing follows from the level of what was never measured
            table = with_gaps(table, risk)
        if options.with_cost:
            table = with_gates(table, chosen, options.products)
        names = [entry.name for entry in chosen]
        needed = minibatches_to_tell(order, *(angles.of(names.index(name), order) for name in table[NAME].head(2)))
        measuring = stages.measuring
        settings = RankingSettings(
            **origin_of(measuring, batches, options.batch_size),
            effects=stages.effects,
            by=order,
            parts=measuring.parts,
            minibatches=len(batches),
            exhaustive=options.exhaustive,
            time_budget=options.limit,
            candidates=len(chosen),
            measured=len({index for index, effect in angles.by_minibatch if effect is order}),
            gradients=stages.gradients,
            exhaustive_gradients=len(chosen) * len(batches) * len(stages.effects),
            regret_at_most=regret(chosen, table, angles, order),
            left_the_race={chosen[index].name: number for index, number in stages.left.items()},
            surrogate={effect: SurrogateCheck(s.held_out, s.widened) for effect, s in surrogates.items()},
            failures=angles.failures,
            products=options.products if options.with_cost else None,
            complete=False,
            stage="" if stages.reached is None else stages.reached,
            seconds=stages.watch.spent,
            formats={entry.name: entry.digest for entry in chosen},
            coverage=None if measuring.checked is None else measuring.checked.sentence,
            gap=risk.sentence if GAP in table.columns and risk is not None else None,
            notes=(
                *other_question(measuring.workload.model, measuring.points),
                *_without_gap(order, measuring.points),
                *_of_parts(measuring.parts),
            ),
            policy="" if stages.policy is None else in_words(stages.policy),
            beyond=stages.beyond,
            left=None if options.limit is None else stages.watch.left,
            unspent=stages.unspent,
            needed=needed,
            available=None if needed is None and len(batches) > 1 else self._available,
        )
        return Ranking(table, order, False, settings)

    @cached_property
    def _available(self) -> int:
        """How many mini-batches there are."""
        return len(self.stages.measuring.workload.minibatches(self.options.batch_size))

    def complete(self) -> Ranking[RankingSettings]:
        """The ranking of all that was to be measured, with what it is held against."""
        found, stages, options = self.so_far(), self.stages, self.options
        measuring, chosen, batches = stages.measuring, stages.candidates, stages.batches
        beside: tuple[Mapping[str, Any], ...] = ()
        weights: dict[str, float] = {}
        if options.yardsticks:
            arguments = (measuring, chosen, batches, stages.effects, stages.by, self.risk)
            cost = (options.with_cost, options.products)
            with suppress(Ended):  # the ranking is there without them
                stages.watch.check()
                beside = measured_yardsticks(*arguments, *cost, stages.watch.check)
                if measuring.points is Points.DATAFLOW and not {Effect.W, Effect.WAE} & set(stages.effects):
                    for name, degrees in weights_alone(measuring, chosen, found.table, batches):
                        weights[name] = degrees
                        stages.watch.check()
        settings = replace(
            found.settings,
            complete=True,
            notes=(*lost_out_of_range(measuring, chosen, batches[0]), *found.settings.notes),
            yardsticks=beside,
            weights_alone=weights,
            seconds=stages.watch.spent,
            left=None if options.limit is None else stages.watch.left,
        )
        return replace(found, complete=True, settings=settings)
