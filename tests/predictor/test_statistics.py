"""Intervals, Pareto fronts and rank correlations against what is known of them."""

import math

import numpy as np
import pytest
from scipy import stats

from predictor.statistics import agreement, angle_interval, interval, narrower, paired_interval, pareto, reliability


def test_interval_is_students():
    mean, low, high = interval(np.array([1.0, 2.0, 3.0, 6.0]))
    half = 3.182446305284263 * np.std([1, 2, 3, 6], ddof=1) / 2
    assert (mean, low, high) == (3.0, pytest.approx(3 - half), pytest.approx(3 + half))
    assert math.isnan(interval(np.array([1.0]))[1])


def test_how_much_more_values_narrow_an_interval():
    assert narrower(2, 4) == pytest.approx(12.706204736 / 2**0.5 / (3.182446305 / 2))
    assert narrower(8, 16) == pytest.approx(stats.t.ppf(0.975, 7) / stats.t.ppf(0.975, 15) * 2**0.5)


def test_reliability_over_seeds():
    # Spearman's 0.5 between two seeds: 2 * 0.5 / (1 + 0.5).
    assert reliability(np.array([[1, 1], [2, 3], [3, 2]])) == pytest.approx(2 / 3)
    assert reliability(np.array([[1, 1, 2], [2, 2, 3], [3, 3, 9]])) == pytest.approx(1)
    # Seeds that order the other way.
    assert math.isnan(reliability(np.array([[1, 3], [2, 2], [3, 1]])))
    assert math.isnan(reliability(np.array([[1], [2], [3]])))


def test_no_interval_leaves_the_angles_there_are():
    assert angle_interval(np.array([1.0, 100.0])) == (50.5, 0.0, 180.0)
    mean, low, high = angle_interval(np.array([1.0]))
    assert mean == 1
    assert np.isnan([low, high]).all()
    assert angle_interval(np.array([1.0, 1.5, 2.0])) == interval(np.array([1.0, 1.5, 2.0]))


def test_paired_interval_is_that_of_a_paired_t_test():
    own, other = {3: 4.5, 0: 1.0, 1: 2.5, 7: 9.0}, {0: 1.5, 1: 2.0, 3: 4.0, 5: 0.0}
    expected = stats.ttest_rel([1.0, 2.5, 4.5], [1.5, 2.0, 4.0])
    mean, low, high = paired_interval(own, other)
    assert mean == pytest.approx(0.5 / 3)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (mean, low, high)[0] == -paired_interval(other, own)[0]


def test_paired_interval_of_too_few():
    mean, low, high = paired_interval({0: 2.0, 1: 5.0}, {0: 1.5, 2: 7.0})
    assert (mean, np.isnan(low), np.isnan(high)) == (0.5, True, True)
    assert np.isnan(paired_interval({0: 2.0}, {1: 2.0})).all()


def test_pareto_is_the_minimal_set():
    points = np.random.default_rng(0).integers(0, 12, (60, 2)).tolist()
    front = pareto(points)
    beaten = lambda p: any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)  # noqa: E731
    assert {tuple(points[i]) for i in front} == {tuple(p) for p in points if not beaten(p)}
    assert [points[i][0] for i in front] == sorted({points[i][0] for i in front})
    assert pareto([(1, 2), (1, 2), (2, 1), (2, 2), (0, 3)]) == [4, 0, 2]
    assert pareto([]) == []
    with pytest.raises(ValueError, match="point 1 holds NaN"):
        pareto([(1, 2), (float("nan"), 1)])


@pytest.mark.slow
def test_agreement_of_known_orders():
    angles = list(range(1, 11))
    perfect = agreement(angles, [[a * a] for a in angles])
    assert (perfect.spearman, perfect.kendall, perfect.formats) == (pytest.approx(1), pytest.approx(1), 10)
    # Drawn again, a perfect order stays one.
    assert (perfect.spearman_low, perfect.spearman_high) == (pytest.approx(1), pytest.approx(1))
    backwards = agreement(angles, [[-a] for a in angles])
    assert (backwards.spearman, backwards.kendall) == (pytest.approx(-1), pytest.approx(-1))
    # One swap of neighbours among 10: Spearman 1 - 6 * 2 / 990, Kendall 1 - 2 / 45.
    swapped = agreement(angles, [[x] for x in (2, 1, *range(3, 11))])
    assert swapped.spearman == pytest.approx(1 - 12 / 990)
    assert swapped.kendall == pytest.approx(1 - 4 / 90)


@pytest.mark.slow
def test_agreement_with_diverged_runs_and_noise():
    random = np.random.default_rng(1)
    angles = np.linspace(1, 20, 20)
    losses = [[a + random.normal(0, 5), a + random.normal(0, 5)] for a in angles]
    losses[-1] = [np.inf, 3.0]
    losses[-2] = [np.inf, np.inf]
    found = agreement(angles, losses)
    assert 0 < found.spearman_low < found.spearman < found.spearman_high <= 1
    assert 0 < found.kendall_low < found.kendall < found.kendall_high <= 1
    assert found == agreement(angles, losses)
    # All but the largest losses of two formats are as they were: their ranks were the largest already.
    with pytest.raises(ValueError, match="3 formats"):
        agreement([1, 2], [[1], [2]])
