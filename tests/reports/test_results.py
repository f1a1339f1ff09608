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
    with pytest.raises(
        ValueError,
        match=r"r\.csv cannot be read as a result: 'high' stands in column angle_AE; finite numbers are needed",
    ):
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank,name\ninf,FP134\n", "inf stands in column rank; finite numbers are needed"),
        ("name,bits\nFP134,-inf\n", "-inf stands in column bits; finite numbers"),
        ("name,angle_AE\nFP134,1e999\n", "inf stands in column angle_AE; finite numbers"),
        ('name,rank\n"a\x1b[31m",1\n', r"'a\\x1b\[31m' stands in column name; names that can be printed"),
        ('name,rank\n"a\nb",1\n', r"'a\\nb' stands in column name; names that can be printed"),
        ("name,rank\n,1\n", "nan stands in column name"),
        ("name,rank\n\u202eFP134,1\n", r"'\\u202eFP134' stands in column name; names that can be printed"),
    ],
)
def test_cells_that_mean_nothing(tmp_path, text, message):
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"r\.csv cannot be read as a result: {message}"):
        results.read(path)


def test_names_that_look_like_something_else_stay_names(tmp_path):
    table = pd.DataFrame({"name": ["NA", "8", "1e3", "None", "true"], "angle_AE": [0.1, float("nan"), 3, 4, 5]})
    for ending in results.ENDINGS:
        path = tmp_path / f"r{ending}"
        results.write(table, path, {})
        pd.testing.assert_frame_equal(results.read(path), table)


@pytest.mark.parametrize("ending", results.ENDINGS)
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"PAR1PAR1", b"[" * 200_000, b'[{"name": [{}]}]\n', b"\0" * 50 + b"\n"]
)
def test_files_of_anything_are_a_line(tmp_path, ending, content):
    path = tmp_path / f"r{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"r{ending} ") as raised:
        results.read(path, ("name", "angle_AE"))
    assert "\n" not in str(raised.value)
    results.sidecar_of(path).write_bytes(content)
    with pytest.raises(ValueError, match=r"meta\.json .*; remove it to read"):
        results.read(path)
