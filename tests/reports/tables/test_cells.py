"""Angles with intervals, and numbers that may be missing."""

import pandas as pd

from reports.tables.cells import angle, or_dash, with_half_width

NAN = float("nan")


def test_an_angle_with_what_is_known_of_it():
    def row(of, low, high, source):
        return {"angle_AE": of, "low_AE": low, "high_AE": high, "source_AE": source}

    assert angle(row(1.23456, 1.0, 1.5, "measured"), "AE") == "1.235 ± 0.250"
    assert angle(row(1.23456, 1.0, 1.5, "predicted"), "AE") == "~1.23"
    assert angle(row(1.23456, NAN, NAN, "measured"), "AE") == "1.235"
    assert angle(row(NAN, NAN, NAN, ""), "AE") == "-"
    assert with_half_width(row(1.23456, 1.0, 1.5, "predicted"), "AE") == "1.235 ± 0.250"


def test_what_is_missing_is_a_dash():
    assert [or_dash(value) for value in (8, "x", None, NAN, pd.NA)] == ["8", "x", "-", "-", "-"]
    assert or_dash(0.123456, ".2f") == "0.12"
