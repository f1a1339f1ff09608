"""The list of points, in words."""

from predictor.listing import list_points
from tests.nets import small_workload


def test_points_and_what_has_none():
    listed, others, coverage = list_points(small_workload(1), exact=["3"])
    assert listed == [
        ["0", "(network)", "input", "16 x 1 x 8 x 8", "two terms (A)"],
        ["1", "0", "conv2d", "16 x 8 x 6 x 6", ""],
        ["2", "3", "linear", "16 x 10", "exact, two terms (E)"],
    ]
    assert others == [["1", "relu", "16 x 8 x 6 x 6", "chooses"], ["2", "flatten", "16 x 288", "moves"]]
    assert coverage.startswith("points cover ")
