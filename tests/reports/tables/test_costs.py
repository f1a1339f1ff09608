"""Cells of what formats cost."""

import pandas as pd

from reports.tables.costs import SCALE_LOGIC, cells, what_is_marked


def row(gates, **columns):
    return {"gates": gates, "femtojoules": 334.6, "bytes_per_value": 0.53125} | columns


def test_gates_that_leave_something_out_are_marked():
    rows = [row(880.7, not_counted=""), row(880.7, not_counted="infinities and NaN"), row(float("nan"), not_counted="")]
    assert [cells(of) for of in rows] == [["881", "335", "0.5312"], ["881†", "335", "0.5312"], ["-", "335", "0.5312"]]
    assert what_is_marked(rows) == ["† without infinities and NaN"]
    assert what_is_marked(rows[:1]) == []
    # From a file nothing is a missing value.
    assert cells(pd.Series(row(880.7, not_counted=float("nan"))))[0] == "881"
    assert cells({"gates": None, "not_counted": ""}) == ["-", "-", "-"]


def test_gates_of_earlier_files_are_without_the_logic_of_scales():
    """They have no column that says what is not counted."""
    kinds = ("tensor", "channel", "block", "tensor+block")
    rows = [pd.Series({"gates": 881.3, "granularity": kind}) for kind in kinds]
    assert [cells(of)[0] for of in rows] == ["881", "881", "881†", "881†"]
    assert what_is_marked(rows) == [f"† without {SCALE_LOGIC}"]
