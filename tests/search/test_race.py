"""Who leaves a race, and when it ends."""

import numpy as np
import pytest

from predictor.effects import Effect
from search.policy import Policy, Rung, most_units
from search.race import PLACES, order_contenders, settled
from search.table import MeasuredAngles


def angles_of(rows):
    angles = MeasuredAngles()
    for index, row in enumerate(rows):
        angles.by_minibatch[index, Effect.AE] = dict(enumerate(row))
    return angles


def field(minibatches, level, spread=0.02, seed=0):
    """Angles of formats whose mini-batches have much in common: (formats, minibatches)."""
    generator = np.random.default_rng(seed)
    common = np.exp(0.3 * generator.normal(size=minibatches))
    return np.array(level)[:, None] * common * np.exp(spread * generator.normal(size=(len(level), minibatches)))


def test_who_is_far_behind_leaves_and_who_is_near_stays():
    levels = [10.0] * PLACES + [10.1, 10.2, 20.0, 40.0]
    found = order_contenders(range(14), angles_of(field(4, levels)), Effect.AE, range(4), 5 * 14)
    assert set(found.left) == {12, 13}
    assert found.order[-2:] == (12, 13)
    assert set(found.order[:PLACES]) <= set(range(12))
    assert found.p_values[-1] < 1e-4
    assert found.p_values[:PLACES] == (1.0,) * PLACES


def test_one_minibatch_and_few_contenders_let_no_one_go():
    assert order_contenders(range(12), angles_of(field(1, [1.0] * 11 + [50.0])), Effect.AE, range(1), 60).left == ()
    assert order_contenders(range(PLACES), angles_of(field(4, [1.0] * 9 + [50.0])), Effect.AE, range(4), 60).left == ()


def test_the_best_seldom_leave_by_chance():
    # 14 equal formats: the chance that any leaves in a race of 3 rungs is to be at most 5%.
    lost = 0
    for seed in range(200):
        angles = angles_of(field(8, [10.0] * 14, 0.1, seed))
        lost += any(order_contenders(range(14), angles, Effect.AE, range(n), 3 * 14).left for n in (2, 4, 8))
    assert lost <= 16  # 5% of 200 and two standard deviations


def test_equal_angles_are_no_difference():
    rows = np.tile(field(4, [10.0]), (12, 1))
    assert order_contenders(range(12), angles_of(rows), Effect.AE, range(4), 60).left == ()


def test_a_race_is_settled_by_one_clear_winner():
    clear = angles_of(field(8, [5.0] + [10.0] * 9))
    standing = order_contenders(range(10), clear, Effect.AE, range(8), 10)
    assert settled(standing, clear, Effect.AE, range(8), 10)
    tie = angles_of(field(8, [10.0] * 10))
    assert not settled(order_contenders(range(10), tie, Effect.AE, range(8), 10), tie, Effect.AE, range(8), 10)
    crowd = angles_of(field(8, [5.0] + [10.0] * 11))
    assert not settled(order_contenders(range(12), crowd, Effect.AE, range(8), 10), crowd, Effect.AE, range(8), 10)


FIVE = Policy(22, 2, (Rung(1, 26), Rung(2, 16), Rung(4, 12), Rung(8, 10)))


@pytest.mark.parametrize(
    ("minibatches", "expected"),
    [
        (16, FIVE.rungs),  # the rest is told by what was measured
        (1, [Rung(1, 26)]),
        (3, [Rung(1, 26), Rung(2, 16), Rung(3, 12)]),
        (8, FIVE.rungs),
        (100, [*FIVE.rungs, Rung(16, 10), Rung(32, 10), Rung(64, 10), Rung(100, 10)]),
    ],
)
def test_rungs_are_those_that_the_minibatches_asked_for_allow(minibatches, expected):
    assert FIVE.until(minibatches) == list(expected)


def test_units_of_a_whole_race():
    assert most_units(FIVE.until(16)) == 26 + 16 + 2 * 12 + 4 * 10
    assert most_units([Rung(4, 12)]) == 48
