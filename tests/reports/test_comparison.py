"""Two rankings side by side: what is common, places, overlap and correlations."""

import json

import pandas as pd
import pytest

from reports import results
from reports.comparison import compare, facts
from reports.tables.rankings import comparison


def write(folder, name, angles, digests=None):
    table = pd.DataFrame({"name": list(angles), "angle_AE": list(angles.values())})
    results.write(table, folder / name, {"formats": digests or {}})
    return folder / name


@pytest.mark.slow
def test_places_overlap_and_correlations(tmp_path):
    names = "PQRSTUV"
    first = write(tmp_path, "a.csv", dict(zip(names, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, float("nan")), strict=True)))
    # Other order of rows, P and Q swapped, one that the first does not have.
    second = write(
        tmp_path, "b.parquet", {"W": 0.5, "U": 60.0, "T": 50.0, "S": 40.0, "R": 30.0, "Q": 10.0, "P": 20.0, "V": 1.0}
    )
    found = compare(first, second)
    assert found.table["name"].tolist() == list("PQRSTU")
    assert found.table["place_b"].tolist() == [2, 1, 3, 4, 5, 6]
    assert found.table["change"].tolist() == [1, -1, 0, 0, 0, 0]
    assert found.overlap == {1: 0, 5: 5}
    assert found.left_out == ["V", "W"]
    # One swap of neighbours among 6.
    assert found.agreement.spearman == pytest.approx(1 - 12 / 210)
    assert found.agreement.kendall == pytest.approx(1 - 4 / 30)
    assert found.agreement.kendall_low < found.agreement.kendall <= found.agreement.kendall_high <= 1
    best, moved, *_ = comparison(found, 3, "")
    assert (best.row_count, moved.row_count) == (3, 2)
    assert json.loads(json.dumps(facts(found), allow_nan=False))["table"][1]["angle_b"] == 10


def test_one_name_of_two_formats_is_left_out(tmp_path):
    angles = dict.fromkeys("PQRS", 1.0) | {"P": 2.0}
    first = write(tmp_path, "a.csv", angles, {"P": "1", "Q": "2", "R": "3", "S": "4"})
    second = write(tmp_path, "b.csv", angles, {"P": "1", "Q": "other", "R": "3"})
    found = compare(first, second)
    assert (sorted(found.table["name"]), found.left_out) == (["P", "R", "S"], ["Q"])


def test_rankings_of_two_questions(tmp_path):
    first = write(tmp_path, "a.csv", {"P": 1.0, "Q": 2.0, "R": 3.0})
    results.write(pd.read_csv(first), tmp_path / "b.csv", {"points": "operands"})
    for paths, said in (
        ((first, tmp_path / "b.csv"), "the first is of data flow, the second at operands"),
        ((first, first), ""),
    ):
        found = compare(*paths)
        assert any(
            said and part.startswith(said) for part in comparison(found, 3, "") if isinstance(part, str)
        ) is bool(said)


def test_too_little_in_common(tmp_path):
    first = write(tmp_path, "a.csv", {"P": 1.0, "Q": 2.0, "R": 3.0})
    with pytest.raises(ValueError, match="have 2 formats in common; at least 3"):
        compare(first, write(tmp_path, "b.csv", {"P": 1.0, "Q": 2.0, "T": 3.0}))
    with pytest.raises(ValueError, match="no column 'angle_E'"):
        compare(first, first, "E")
