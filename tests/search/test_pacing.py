"""Rankings that have so many seconds, on a clock that only measuring moves."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

import formats
from predictor.effects import Effect, Points
from predictor.gradient.noise import Kind
from predictor.measuring.executors import InProcess
from search import rank
from search.front import BESIDE, FRONT, LONGEST, SCREEN, SCREEN_ALONE, UNIT
from search.leaders import in_time
from search.pacing import Ended, Pace, Watch, best_within
from search.policy import DEFAULT, in_words
from search.stages import Stage, Stages
from tests.nets import small_workload

CANDIDATES = list(formats.catalogue())[::6]
RATIOS = np.random.default_rng(0).lognormal(-6.0, 1.0, (len(CANDIDATES), 1)) * np.ones(3)


class Machine:
    """Stands where a measuring session does: its clock moves by what it is asked for, and by nothing else."""

    points, store, scheme, parts = Points.DATAFLOW, None, None, 1
    workload = SimpleNamespace(name="fake")

    def __init__(self, gradient=1.0, unit=UNIT, executor=None):
        self.now, self.gradient, self.unit = 100.0, gradient, unit
        self.executor = executor or InProcess()
        self.units = self.opened = 0

    def report(self, stage, done, total):
        pass

    @staticmethod
    def degrees(index, number):
        return 100 * np.sqrt(RATIOS[index].mean()) * (1 + 0.01 * np.sin(7 * index + number))

    @contextmanager
    def gradients(self, batch, kept, pointed):
        self.opened += 1
        self.now += self.gradient
        yield

    def measured(self, candidates, batches, effects, units):
        for place, (number, index) in enumerate(units):
            if not place or units[place - 1][0] != number:
                self.now += self.gradient
            self.now += self.unit
            self.units += 1
            degrees = self.degrees(index, number)
            yield SimpleNamespace(
                **{"format": index, "minibatch": number, "effect": effects[0], "seconds": self.unit},
                angle=lambda degrees=degrees: degrees,
                projection=lambda: 1.0,
                length_ratio=lambda: 1.0,
                failed=lambda: False,
                square=1.0,
                sketch=np.ones((2, 4), np.float32),
            )


class Paced(Stages):
    """The stages, whose screen is made up."""

    def screen(self):
        self.measuring.now += SCREEN * self.measuring.gradient
        self.noise, self.ratios, self.reached = SimpleNamespace(kinds=(Kind.E,) * 3), RATIOS, Stage.SCREEN


def ranked(machine, limit, after=None, beside=False):
    """What is measured in so many seconds. after: changes the machine after each stage."""
    watch = Watch(limit, lambda: machine.now)
    stages = Paced(machine, CANDIDATES, range(16), (Effect.E,), Effect.E, watch)
    for stage in in_time(stages, beside):
        if after is not None:
            after(machine, stage)
    return stages


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (8, "the screen alone"),
        (60, "15 anchors on 2 mini-batches, 12 race to 2"),
        (110, "22 anchors on 2 mini-batches, 12 race to 4"),
        (1000, "22 anchors on 2 mini-batches, 16 race to 6"),
    ],
)
@pytest.mark.parametrize("gradient", [0.01, 30.0])
def test_the_best_policy_that_ends_in_time_on_any_machine(limit, words, gradient):
    machine = Machine(gradient, UNIT * gradient)
    stages = ranked(machine, limit * gradient)
    assert in_words(stages.policy) == words
    assert stages.watch.left >= 0
    assert stages.watch.spent >= 6 * gradient
    assert stages.gradients == machine.units
    assert (stages.reached is Stage.SCREEN) == (words == "the screen alone")


def test_after_anchors_that_took_long_less_is_raced_and_more_after_quick_ones():
    def change(unit):
        def after(machine, stage):
            if stage is Stage.SCREEN:
                machine.unit = unit

        return after

    as_guessed = ranked(Machine(), 110)
    assert in_words(as_guessed.policy) == "22 anchors on 2 mini-batches, 12 race to 4"
    slow = ranked(Machine(), 110, change(2 * UNIT))
    assert slow.policy.rungs[-1].minibatches < 4
    assert slow.watch.left >= 0
    fast = ranked(Machine(), 110, change(UNIT / 10))
    assert fast.policy == LONGEST
    assert fast.watch.left >= 0


def test_more_anchors_follow_quick_ones_and_none_is_measured_twice():
    machine = Machine()

    def after(machine, stage):
        machine.unit = UNIT / 20

    stages = ranked(machine, 45, after)
    assert stages.policy.anchors == 22
    pairs = sum(len(stages.angles.of(index, Effect.E)) for index in range(len(CANDIDATES)))
    assert pairs == machine.units


def test_where_a_race_takes_longer_than_its_anchors_it_ends_within_a_unit():
    def after(machine, stage):
        if stage is Stage.ANCHORS:
            machine.unit, machine.gradient = 5.0, 0.0

    machine = Machine()
    with pytest.raises(Ended):
        ranked(machine, 60, after)
    assert 160 < machine.now <= 165


@pytest.mark.parametrize("limit", [60, 110, 300])
def test_what_a_policy_leaves_is_spent_on_its_leaders(limit):
    machine = Machine()
    stages = ranked(machine, limit)
    assert stages.beyond > 0
    assert stages.reached is Stage.LEADERS
    assert stages.watch.spent <= limit
    assert stages.unspent.startswith("one format more on all 16 mini-batches takes about ")
    assert stages.watch.left < float(stages.unspent.split()[-2]) + 0.5 <= (1 + UNIT) * 16 + 1
    leaders = stages.order(Effect.E)[:5]
    reached = {len(stages.angles.of(index, Effect.E)) for index in leaders}
    assert min(reached) > stages.policy.rungs[-1].minibatches
    if limit == 300:  # those that follow too, and a mean is a mean
        assert reached == {16}
        followed = [index for index in range(len(CANDIDATES)) if len(stages.angles.of(index, Effect.E)) == 16]
        assert len(followed) > 10
        assert len(stages.observations(Effect.E)) < machine.units


def test_with_more_time_than_everything_takes_it_ends_and_says_so():
    machine = Machine()
    stages = ranked(machine, 1e6, beside=True)
    assert stages.unspent == f"all {len(CANDIDATES)} formats are measured on all 16 mini-batches"
    assert machine.units == len(CANDIDATES) * 16
    assert len(stages.observations(Effect.E)) < 400
    degrees = [np.mean([Machine.degrees(index, number) for number in range(16)]) for index in range(len(CANDIDATES))]
    true = np.argsort(degrees)
    assert stages.order(Effect.E) == true.tolist()


def test_yardsticks_keep_their_time_while_leaders_are_measured():
    stages = ranked(Machine(), 200, beside=True)
    assert BESIDE < stages.watch.left < BESIDE + 16 * (1 + UNIT)


def test_without_time_to_measure_anything_it_says_what_that_takes():
    stages = ranked(Machine(), 8)
    assert (stages.beyond, stages.reached) == (0, Stage.SCREEN)
    assert stages.unspent == f"measuring anything takes about {28 * UNIT + 4:.2g} s"


def test_leaders_end_within_a_unit_where_they_take_longer_than_they_did():
    machine = Machine()

    def after(machine, stage):
        if stage is Stage.LEADERS:
            machine.unit = 4 * UNIT

    stages = ranked(machine, 300, after)
    assert 270 < stages.watch.spent <= 300 + 4 * UNIT + machine.gradient


def test_no_time_for_the_screen_is_told_after_one_gradient():
    machine = Machine(gradient=10.0)
    with pytest.raises(
        ValueError, match=r"time 59 s is too short for workload fake, whose screen alone takes about 50 s"
    ):
        ranked(machine, 59)
    assert (machine.opened, machine.units, machine.now) == (1, 0, 110.0)
    assert ranked(Machine(gradient=10.0), 60.5).policy == SCREEN_ALONE.policy


def test_yardsticks_and_tables_take_their_time_too():
    pace = Pace(opening=1.0, unit=1.0, anchor=2.0)
    cheapest = FRONT[1]  # 15 anchors on 1, 13 units of a race, 4 openings
    assert pace.seconds(cheapest, 16, 0, False) == 15 * 2 + 13 + 4
    assert pace.seconds(cheapest, 16, 0, True) == 47 + BESIDE
    assert pace.seconds(cheapest, 16, 15, False) == 13 + 3
    assert Pace(1.0, 1.0, 2.0, table=0.5).seconds(cheapest, 16, 15, False) == 13 + 3 + 2 * 0.5
    same = Pace(opening=1.0, unit=1.0, anchor=1.0)
    assert best_within(32 / 0.9 + 1e-6, same, 16) is cheapest
    assert best_within(32 / 0.9 - 1e-6, same, 16) is SCREEN_ALONE
    # What is ranked counts more than what it is held against, as long as nothing else is left.
    assert best_within(32 / 0.9 + 1e-6, same, 16, beside=True) is cheapest
    assert best_within((61 + BESIDE) / 0.9 - 1e-6, same, 16, beside=True) is cheapest
    assert best_within((61 + BESIDE) / 0.9 + 1e-6, same, 16, beside=True) is FRONT[2]
    assert best_within(32 / 0.9 - 1e-6, same, 16, beside=True) is SCREEN_ALONE


def test_a_pace_is_corrected_by_what_anchors_took():
    guessed = Pace.guessed(1.0, (Effect.E, Effect.AE), Effect.E, kept=True)
    assert guessed == Pace(1.0, 0.73, 0.73 + 1.1)
    assert Pace.guessed(1.0, (Effect.WAE,), Effect.WAE, kept=False).unit == 1.1
    pace = Pace(opening=1.0, unit=1.0, anchor=2.0)
    # Twice the guess, all of it.
    assert pace.corrected(1, 10, wall=42.0, spent=40.0) == Pace(2 / 2 * 42 / 41, 2 * 42 / 41, 4 * 42 / 41)
    # From the store: what they took then.
    assert pace.corrected(1, 10, wall=0.0, spent=40.0) == Pace(1.0, 2.0, 4.0)
    # Four processes, of which only the wall is known.
    assert pace.corrected(1, 10, wall=21 / 4, spent=None) == Pace(0.25, 0.25, 0.5)
    assert pace.corrected(0, 0, wall=0.0, spent=0.0) == pace


def test_a_race_for_fewer_mini_batches():
    assert SCREEN_ALONE.policy.until(16) == []
    assert in_words(DEFAULT) == "15 anchors on 2 mini-batches, 12 race to 4"
    short, whole = (Pace(0.0, 1.0, 1.0).seconds(FRONT[-1], minibatches, 0, False) for minibatches in (2, 16))
    assert short == 22 * 2 + 16 + 14 + 8  # as many enter as may
    assert whole == FRONT[-1].units


def test_times_that_cannot_be():
    workload, chosen = small_workload(1), CANDIDATES[:30]
    with pytest.raises(ValueError, match="too short for workload small"):
        rank(workload, chosen, effects=["E"], seconds=1e-6)
    with pytest.raises(ValueError, match=r"time -1\.0 s: a positive number of seconds is needed"):
        rank(workload, chosen, seconds=-1.0)
    with pytest.raises(ValueError, match="a time and a time budget were given"):
        rank(workload, chosen, seconds=1.0, time_budget=1.0)


def test_where_all_are_measured_there_is_no_policy():
    few = rank(small_workload(1), CANDIDATES[:2], effects=["E"], seconds=1e6)
    assert (few.settings.policy, few.settings.time_budget, few.complete) == ("", 1e6, True)
    assert few.settings.left == pytest.approx(1e6 - few.settings.seconds, abs=1)
