"""Result files and their sidecars."""

import json

import pandas as pd
import pytest

from reports import results


def test_a_table_comes_back_as_it_was(tmp_path):
    table = pd.DataFrame({"rank": [1, 2], "name": ["FP134", "INT8"], "angle_AE": [0.1, float("nan")]})
    for ending in results.ENDINGS:
        path = tmp_path / f"r{ending}"
        results.write(table, path, {"minibatches": 3})
        pd.testing.assert_frame_equal(results.read(path, ("rank", "angle_AE")), table)
        beside = results.sidecar(path)
        assert list(beside) == ["file", "rows", "sha256", "written", "versions", "settings"]
        assert (beside["file"], beside["rows"], beside["settings"]) == (path.name, 2, {"minibatches": 3})


def test_a_column_of_numbers_that_holds_something_else(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("name,angle_AE\nFP134,1.5\nINT8,high\n")
    with pytest.raises(ValueError, match=r"r\.csv: 'high' stands in column angle_AE; numbers are needed"):
        results.read(path)


@pytest.mark.parametrize("text", ['{"sha256": null, "settings": 3}', "[]", "{", '{"settings": {}}'])
def test_a_damaged_sidecar(tmp_path, text):
    path = tmp_path / "r.csv"
    path.write_text("name\nFP134\n")
    results.sidecar_of(path).write_text(text)
    for read in (results.read, results.sidecar):
        with pytest.raises(ValueError, match=r"r\.csv\.meta\.json .*; remove it to read r\.csv without its check"):
            read(path)
    results.sidecar_of(path).write_text(json.dumps({"sha256": None}))
    assert len(results.read(path)) == 1
