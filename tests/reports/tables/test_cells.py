"""Angles with intervals, and numbers that may be missing."""

import pandas as pd

from reports.tables.cells import angle, bounded, or_dash, wide, with_bounds

NAN = float("nan")


def test_an_angle_with_what_is_known_of_it():
    def row(of, low, high, source):
        return {"angle_AE": of, "low_AE": low, "high_AE": high, "source_AE": source}

    assert angle(row(1.23456, 1.0, 1.5, "measured"), "AE") == "1.235 ± 0.250"
    assert angle(row(1.23456, 1.0, 1.5, "predicted"), "AE") == "~1.23"
    assert angle(row(1.23456, NAN, NAN, "measured"), "AE") == "1.235"
    assert angle(row(NAN, NAN, NAN, ""), "AE") == "-"
    assert with_bounds(row(1.23456, 1.0, 1.46912, "predicted"), "AE") == "1.235 ± 0.235"


def test_intervals_are_written_by_their_ends_where_the_half_width_would_mislead():
    # Of few mini-batches, or ended at 0: 2.451 ± 3.392 would say that angles can be negative.
    assert bounded(2.0, 1.0, 3.0, 16) == "2.000 ± 1.000"
    assert bounded(2.0, 1.0, 3.0, 4) == "2.000 [1, 3]"
    assert bounded(2.451, 0.0, 5.843, 16) == "2.451 [0, 5.84]"
    assert bounded(9.963, 5.85, 17.42, 16, 2) == "9.96 [5.85, 17.4]"
    assert bounded(9.963, NAN, NAN, 1) == "9.963"


def test_wide_intervals_name_the_option_that_narrows_them():
    narrow, broad = (3.0, 2.1, 3.9, 2), (3.0, 0.0, 4.1, 2)
    assert wide([narrow, narrow, broad, (NAN, NAN, NAN, 2)]) == []
    [said] = wide([narrow, broad, broad])
    assert said == (
        "2 of 3 intervals reach more than a third of their angle to a side; --minibatches 4 makes them about 5.6 times "
        "narrower"
    )
    assert "--minibatches 16 makes them about 1.6 times" in wide([(3.0, 0.0, 9.0, 8)])[0]
    assert wide([(3.0, NAN, NAN, 1)]) == ["one mini-batch gives no interval; --minibatches 4 does"]
    assert wide([]) == []


def test_what_is_missing_is_a_dash():
    assert [or_dash(value) for value in (8, "x", None, NAN, pd.NA)] == ["8", "x", "-", "-", "-"]
    assert or_dash(0.123456, ".2f") == "0.12"
