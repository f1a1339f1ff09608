"""Result files and their sidecars."""

import errno
import json
import os

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


def table_of(value):
    return pd.DataFrame({"name": ["FP134"], "angle_AE": [value]})


class Ended(BaseException):
    """Stands for the end of a process: nobody expects it."""


@pytest.mark.parametrize("ending", results.ENDINGS)
@pytest.mark.parametrize("earlier", ["none", "pair", "table alone", "pair, ended once"])
def test_a_pair_is_whole_wherever_its_writing_ends(tmp_path, monkeypatch, ending, earlier):
    """Ended before each move into place; whoever reads finds the old pair or the new one."""
    path = tmp_path / f"r{ending}"
    replace = os.replace

    def written(value, moves):
        left = [moves]

        def move(source, target):
            if not left[0]:
                raise Ended
            left[0] -= 1
            replace(source, target)

        monkeypatch.setattr(os, "replace", move)
        try:
            results.write(table_of(value), path, {"value": value})
        except Ended:
            return False
        finally:
            monkeypatch.setattr(os, "replace", replace)
        return True

    def found():
        value = results.read(path)["angle_AE"].iloc[0]
        return value, results.sidecar(path).get("settings", {}).get("value")

    whole, moves = False, 0
    while not whole:
        for left in tmp_path.iterdir():
            left.unlink()
        before = None
        if earlier != "none":
            assert written(1.5, 9)
            before = (1.5, 1.5)
        if earlier == "table alone":
            results.sidecar_of(path).unlink()
            before = (1.5, None)
        if earlier == "pair, ended once":
            assert not written(2.5, 1)
            assert found() == before
        whole = written(3.5, moves)
        if path.exists():
            assert found() in ((3.5, 3.5), before)
        else:
            assert not whole
            assert before is None
        moves += 1
    assert found() == (3.5, 3.5)
    assert moves == (3 if earlier == "none" else 4)
    assert "before" not in json.loads(results.sidecar_of(path).read_text())
    assert len(list(tmp_path.iterdir())) == 2


def test_a_table_that_does_not_fit_on_the_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path, fsync, calls = tmp_path / "r.csv", os.fsync, []

    def fail(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*/r.csv'"):
        results.write(table_of(1.5), path, {})
    assert list(tmp_path.iterdir()) == []
    results.write(table_of(1.5), path, {"value": 1})
    calls.clear()
    with pytest.raises(OSError, match="No space left"):
        results.write(table_of(2.5), path, {"value": 2})
    assert (results.read(path)["angle_AE"].iloc[0], results.sidecar(path)["settings"]) == (1.5, {"value": 1})


def test_what_was_changed_later_says_how_it_can_be_read(tmp_path):
    path = tmp_path / "r.csv"
    results.write(table_of(1.5), path, {})
    path.write_text(path.read_text().replace("1.5", "2.5"))
    with pytest.raises(ValueError, match=r"r\.csv\.meta\.json has another digest; remove that to read it without"):
        results.read(path)


@pytest.mark.parametrize("before", [3, [], {}, {"sha256": None}, {"sha256": "x", "settings": 3}])
def test_what_a_sidecar_says_of_an_earlier_table_may_be_anything(tmp_path, before):
    path = tmp_path / "r.csv"
    results.write(table_of(1.5), path, {"value": 1})
    beside = json.loads(results.sidecar_of(path).read_text())
    results.sidecar_of(path).write_text(json.dumps(beside | {"before": before}))
    assert results.sidecar(path) == beside
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


def test_what_a_command_wrote_it_may_replace(tmp_path):
    path = tmp_path / "r.csv"
    assert not results.made_by(path, "formats rank")
    results.write(pd.DataFrame({"name": ["FP134"]}), path, {"command": "formats rank"})
    assert results.made_by(path, "formats rank")
    assert not results.made_by(path, "formats rank -m other")
    path.write_text("name\nINT8\n")
    assert not results.made_by(path, "formats rank")
