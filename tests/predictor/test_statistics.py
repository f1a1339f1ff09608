"""Statistics that rankings and reports share."""

import numpy as np
import pytest

from predictor.statistics import pareto


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
