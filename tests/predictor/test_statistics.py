"""Statistics that rankings and reports share."""

import numpy as np
import pytest
from scipy import stats

from predictor.statistics import paired_interval, pareto


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
