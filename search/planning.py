"""What is asked of a ranking, how much it measures for that, and about how long that takes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import pandas as pd

from formats.hardware.totals import PRODUCTS
from formats.pairs import Candidate
from predictor.columns import angle_column, effects_in
from predictor.device import device_of
from predictor.effects import (
    DEFAULT_EFFECTS,
    OPERAND_EFFECTS,
    Effect,
    Points,
    check_effects,
    effects_at,
    usual_effect,
)
from predictor.measuring.units import Subject, Unit, check_minibatches, measure_unit
from predictor.recipes.placed import recipe_at
from predictor.requirements.memory import parts_within
from predictor.risk import INDICATORS, Risk, applies_to, bundled_trainings, risk_of
from predictor.scheme import Scheme, rules_at
from search.candidates import choose
from search.front import SCREEN, Tried
from search.pacing import Pace, best_within
from search.policy import BY_E, DEFAULT, LONG, Policy, most_units
from workloads.workload import Workload

FEW = 24
"""So many candidates are all measured; more are raced."""
MINIBATCHES_OF_FEW = 4
FORESEEN = (60.0, 300.0, 1800.0)
"""Seconds for which a plan says what a ranking would be."""
PREDICTED = {Points.DATAFLOW: DEFAULT_EFFECTS, Points.OPERANDS: OPERAND_EFFECTS}
"""The effects whose noise a screen sees."""
Of = TypeVar("Of", bound=Subject)
REOPENED = 4
"""About how many mini-batches are opened again: by the screen, the anchors and the first rung of the race."""


@dataclass(frozen=True)
class RankingOptions:
    """What is asked of a ranking; `rank` says what each means."""

    effects: Iterable[str] | None = None
    by: str | None = None
    minibatches: int | None = None
    batch_size: int | None = None
    exhaustive: bool = False
    time_budget: float | None = None
    with_cost: bool = False
    calibration: pd.DataFrame | None = None
    yardsticks: bool = False
    points: Points = Points.DATAFLOW
    seconds: float | None = None
    products: int = PRODUCTS
    memory: int | None = None

    @property
    def limit(self) -> float | None:
        """Seconds after which measuring stops."""
        return self.time_budget if self.seconds is None else self.seconds

    def all_measured(self, candidates: int) -> bool:
        """Whether every one of so many candidates is measured."""
        return self.exhaustive or candidates <= FEW

    @property
    def policy(self) -> Policy:
        """What is measured of many candidates."""
        if self.points is not Points.DATAFLOW:
            return LONG
        many = self.wanted_effects(FEW + 1)
        return BY_E if self._order(many) == Effect.E else DEFAULT

    def _order(self, wanted: tuple[Effect, ...]) -> str:
        return usual_effect(wanted, self.points) if self.by is None else self.by.upper()

    def wanted_effects(self, candidates: int) -> tuple[Effect, ...]:
        """The effects of a ranking of so many candidates: those that were asked for, else the one that orders the table
        alone where measuring more of them would take long."""
        usual: tuple[Effect, ...] = DEFAULT_EFFECTS
        by = Effect.AE if self.by is None else check_effects([self.by])[0]
        if candidates > FEW:
            usual = (by,)
        elif by not in usual:
            usual = (*usual, by)
        return effects_at(self.points, self.effects, usual)

    def checked_effects(self, candidates: int) -> tuple[tuple[Effect, ...], Effect]:
        """The effects of a ranking of so many candidates, and the one that orders it; ValueError where they, or the
        time budget, cannot be."""
        wanted = self.wanted_effects(candidates)
        order = check_effects([self._order(wanted)])[0]
        if order not in wanted:
            raise ValueError(
                f"a ranking by {order} needs that effect among the measured ones, which are {', '.join(wanted)}"
            )
        for said, given in (("time budget", self.time_budget), ("time", self.seconds)):
            if given is not None and not 0 < given < math.inf:
                raise ValueError(f"{said} {given} s: a positive number of seconds is needed")
        if self.time_budget is not None and self.seconds is not None:
            raise ValueError("a time and a time budget were given: allowed is one of them")
        for effect in wanted:
            if effect not in PREDICTED[self.points] and not self.all_measured(candidates):
                raise ValueError(
                    f"effect {effect} is measured, never predicted: rank exhaustively, or at most {FEW} formats"
                )
        return wanted, order

    def risk(self, scheme: Scheme, candidates: int) -> Risk | None:
        """What tells the gaps, by the effect that orders the table; None where its angles are of another kind than
        those of the trainings. ValueError where those that were given have no angle of it."""
        order = self.checked_effects(candidates)[1]
        if self.points is not Points.DATAFLOW or not applies_to(scheme) or order not in INDICATORS:
            return None
        trainings = bundled_trainings()
        if self.calibration is not None:
            if not self.calibration.get(angle_column(order), pd.Series(dtype=float)).notna().any():
                told = ", ".join(effects_in(self.calibration)) or "none"
                raise ValueError(
                    f"the trainings given for calibration have no angle of {order}, which orders the table; they have "
                    f"{told}"
                )
            trainings = pd.concat([trainings, self.calibration])
        return risk_of(trainings, order)

    def batches(self, workload: Workload, candidates: int) -> Sequence[object]:
        """The mini-batches that so many candidates are measured on at most; ValueError where there are not as many."""
        usual = MINIBATCHES_OF_FEW if candidates <= FEW else self.policy.over
        return check_minibatches(workload, self.minibatches, self.batch_size, None if self.exhaustive else usual)

    def in_memory(self, subject: Of, batches: Sequence[object], effects: Sequence[Effect]) -> Of:
        """The subject with its mini-batches in as many micro-batches as the memory needs; ValueError where it is too
        little, and for what cannot be split."""
        if self.memory is None:
            return subject
        if device_of(subject.workload).type != "cpu":
            raise ValueError("--memory is that of a process on the CPU; leave it out on another device")
        if self.points is Points.OPERANDS:
            raise ValueError("--memory with points operands: mini-batches are split in data flow alone; leave one out")
        graphs = int(Effect.E in effects) + int(effects != (Effect.E,))
        return replace(subject, parts=parts_within(subject.workload, batches[0], self.memory, graphs))


@dataclass(frozen=True)
class InTime:
    """What a ranking is expected to be that has so many seconds.

    Attributes:
        seconds: That it has.
        screen: Those that its screen takes.
        tried: The policy; None where there is no time for the screen.
    """

    seconds: float
    screen: float
    tried: Tried | None


@dataclass(frozen=True)
class Plan:
    """What a ranking is going to do, for `--dry-run`.

    Attributes:
        points: Where data flow is rounded: how many; at operands, how many products are.
        at: Which of the two.
        candidates: How many there are.
        measured: How many of them get an exact angle at most.
        minibatches: The most that a format is measured on.
        gradients: Quantized gradients to compute at most.
        exhaustive: How many a measurement of every candidate takes.
        seconds: An estimate, from one format measured on the first mini-batch.
        in_time: What it would be in 1, 5 and 30 minutes; empty where every candidate is measured.
    """

    points: int
    at: Points
    candidates: int
    measured: int
    minibatches: int
    gradients: int
    exhaustive: int
    seconds: float
    in_time: tuple[InTime, ...] = ()


def plan(
    workload: Workload,
    candidates: Sequence[str | Candidate] | None = None,
    *,
    points: Points | str = Points.DATAFLOW,
    effects: Iterable[str] | None = None,
    by: str | None = None,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exhaustive: bool = False,
    exact: Sequence[str] = (),
    scheme: Scheme | str | None = None,
    two_terms: bool = True,
    memory: int | None = None,
) -> Plan:
    """What `rank` with these arguments would do, and about how long it would take.

    Raises:
        ValueError: What `rank` refuses of them.
    """
    at, rules = rules_at(points, scheme, two_terms)
    chosen = choose(candidates)
    options = RankingOptions(effects, by, minibatches, batch_size, exhaustive, points=at, memory=memory)
    wanted, _ = options.checked_effects(len(chosen))
    batches = options.batches(workload, len(chosen))
    began = time.monotonic()
    subject = options.in_memory(Subject(workload, tuple(exact), rules, points=at), batches, wanted)
    with subject.gradients(batches[0], kept=at is Points.DATAFLOW) as gradients:
        shared = time.monotonic() - began
        operands = at is Points.OPERANDS
        if operands:
            places = max(0, len(gradients.products) - 1)  # but for the head
        else:
            places = sum(not point.exact for point in gradients.flow.points)
        seconds = []
        # The first time compiles what is not in the cache.
        for timed in (wanted, wanted, wanted[-1:]):
            began = time.monotonic()
            if operands:
                for effect in timed:
                    measure_unit(gradients, Unit(0, 0, (Effect.OPERANDS,)), recipe_at(chosen[0], effect))
            else:
                measure_unit(gradients, Unit(0, 0, timed), chosen[0])
            seconds.append(time.monotonic() - began)
    _, each, each_of_race = seconds
    whole = len(chosen) * len(batches)
    if options.all_measured(len(chosen)):
        return Plan(
            points=places,
            at=at,
            candidates=len(chosen),
            measured=len(chosen),
            minibatches=len(batches),
            gradients=whole * len(wanted),
            exhaustive=whole * len(wanted),
            seconds=len(batches) * shared + whole * each,
        )
    policy = options.policy
    rungs = policy.until(len(batches))
    race, (on, beside) = most_units(rungs), policy.on(len(batches))
    for_all, for_one = policy.anchors * beside, policy.anchors * (on - beside) + race
    return Plan(
        points=places,
        at=at,
        candidates=len(chosen),
        measured=min(policy.anchors + rungs[0].contenders, len(chosen)),
        minibatches=len(batches),
        gradients=for_all * len(wanted) + for_one,
        exhaustive=whole * len(wanted),
        seconds=(len(batches) + REOPENED) * shared + for_all * each + for_one * each_of_race,
        in_time=tuple(_in_time(seconds, Pace(shared, each_of_race, each), len(batches)) for seconds in FORESEEN),
    )


def _in_time(seconds: float, pace: Pace, minibatches: int) -> InTime:
    screen = SCREEN * pace.opening
    fits = screen <= seconds
    return InTime(seconds, screen, best_within(seconds - screen, pace, minibatches, beside=True) if fits else None)
