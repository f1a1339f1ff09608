"""The file of a store: one that is damaged, foreign or cannot be written ends nothing."""

import os
import sqlite3

import numpy as np
import pytest

from predictor.effects import Effect
from predictor.measuring.store import FILE, Store
from tests.predictor.measuring.entries import CONTEXT, filled, stored
from tests.processes import python

E = Effect.E


def set_aside(path):
    return sorted(
        entry.name
        for entry in path.parent.iterdir()
        if "set-aside" in entry.name and not entry.name.endswith(("-wal", "-shm"))
    )


def another_version(path):
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()


def no_table(path):
    with sqlite3.connect(path) as file:
        file.execute("DROP TABLE measurements")
    file.close()


def another_program(path):
    path.unlink()
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE diary (day TEXT)")
    file.close()


def no_database(path):
    path.write_bytes(b"\x01 this is no database \x02" * 500)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path):
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(content)


def a_changed_number(path):
    content = path.read_bytes()
    sums = np.full((20, 3), 7.0).tobytes()
    assert sums in content
    changed = np.full((20, 3), 7.0)
    changed[3, 1] = 7.5
    path.write_bytes(content.replace(sums, changed.tobytes()))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (another_version, "has schema 99, not 1"),
        (another_program, "is not a store of measurements"),
        (no_table, "is damaged (a table is missing)"),
        (no_database, "is damaged (file is not a database)"),
        (cut_short, "is damaged (database disk image is malformed)"),
        (overwritten, "is damaged ("),
        (a_changed_number, "is damaged (a measurement is not what was written)"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_set_aside(path, capsys, damage, said):
    filled(path)
    damage(path)
    before = path.read_bytes()
    names = [f"format{number}" for number in range(400)]
    with Store.open(path) as store:
        assert store.get(CONTEXT, "b", names, Effect) == {}
        store.put(CONTEXT, "b", [("f", E, stored(1))])
        assert list(store.get(CONTEXT, "b", ["f", *names], Effect)) == [("f", E)]
        err = capsys.readouterr().err
        assert err.startswith(f"warning: the store {path} {said}")
        assert err.count("\n") == 1
        (aside,) = set_aside(path)
        assert aside in err
        assert (path.parent / aside).read_bytes()[100:] == before[100:]
        assert store.info().set_aside == 1
        assert store.clear() == 1
        assert set_aside(path) == []
    with Store.open(path) as store:
        assert store.info().measurements == 0
    assert capsys.readouterr().err == ""


def test_another_process_has_set_it_aside_first(path, capsys):
    filled(path)
    with Store.open(path) as store, Store.open(path) as other:
        a_changed = sqlite3.connect(path)
        with a_changed:
            a_changed.execute("UPDATE measurements SET checksum = checksum + 1")
        a_changed.close()
        assert other.get(CONTEXT, "b", ["format1"], [E]) == {}
        other.put(CONTEXT, "b", [("f", E, stored(1))])
        assert store.get(CONTEXT, "b", ["format1"], [E]) == {}
        assert store.get(CONTEXT, "b", ["f"], [E]) != {}
    assert capsys.readouterr().err.count("\n") == 1
    assert len(set_aside(path)) == 1


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with Store.open(tmp_path / "file" / FILE) as store:
        store.put(CONTEXT, "b", [("f", E, stored(1))])
        assert store.get(CONTEXT, "b", ["f"], [E]) == {}
        assert (store.info().measurements, store.clear()) == (0, 0)
    err = capsys.readouterr().err
    assert err.startswith("warning: measurements are not kept in ")
    assert err.count("\n") == 1
    (tmp_path / FILE).mkdir()
    with Store.open(tmp_path / FILE) as store:
        store.put(CONTEXT, "b", [("f", E, stored(1))])
    assert "unable to open database file" in capsys.readouterr().err


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from predictor.measuring.context import Context
from predictor.measuring.store import Store, Stored
from predictor.effects import Effect
context = Context("w", "n", "l", "p", "t", "d", "m", 1)
with Store.open(Path(sys.argv[1])) as store:
    store.put(context, "b", [("first", Effect.E, Stored(("a",), np.ones((1, 3)), 1.0))])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    for number in range(50):
        store.put(context, "b", [(f"format{number}", Effect.E, Stored(("a",) * 99, np.ones((99, 3)), 1.0))])
    assert ("first", Effect.E) in store.get(context, "b", ["first"], [Effect.E])
"""


@pytest.mark.slow
def test_a_full_disk_is_one_line(path):
    """A limit on the size of files stands for it: the same write fails."""
    done = python("-c", FULL, path)
    assert done.stderr.startswith("warning: measurements are not kept in ")
    assert done.stderr.count("\n") == 1
    with Store.open(path) as store:
        assert 0 < store.info().measurements < 51
