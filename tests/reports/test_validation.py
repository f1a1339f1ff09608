"""Trainings that gaps are told from: read again from what a validation wrote."""

import pandas as pd
import pytest

from predictor.scheme import CURRENT, PAPER
from reports import results
from reports.validation import by_format, read_calibration

RUNS = pd.DataFrame(
    {
        "network": "net",
        "name": ["FP134", "FP134", "INT8"],
        "seed": [0, 1, 0],
        "bits": 8,
        "angle": [1.0, 1.0, 5.0],
        "angle_E": [1.0, 1.0, 5.0],
        "outcome": "finished",
        "loss": [1.0, 3.0, 4.0],
        "metric": 0.5,
        "gap": [0.0, 0.5, 1.0],
    }
)


def test_formats_by_their_angle():
    table = by_format(RUNS).set_index("name")
    assert table["gap"].tolist() == [0.25, 1.0]
    assert by_format(RUNS.drop(columns="gap"))["gap"].isna().all()  # as files were before


def test_calibration_files(tmp_path):
    assert read_calibration([]) is None
    mine, other = tmp_path / "mine.csv", tmp_path / "other.csv"
    results.write(RUNS, mine, PAPER.settings)
    results.write(RUNS.assign(network="other"), other, PAPER.settings)
    found = read_calibration([mine, other])
    assert found["network"].tolist() == ["net"] * 3 + ["other"] * 3
    with pytest.raises(ValueError, match="the training of FP134 from seed 0 on net was given twice"):
        read_calibration([mine, mine])


def test_what_is_no_calibration(tmp_path):
    path = tmp_path / "runs.csv"
    results.write(RUNS, path, CURRENT.settings)
    with pytest.raises(ValueError, match="trainings of scheme current; gaps are told from those of scheme paper"):
        read_calibration([path])
    results.write(RUNS.drop(columns="gap"), path, PAPER.settings)
    with pytest.raises(ValueError, match="has no column 'gap'"):
        read_calibration([path])
