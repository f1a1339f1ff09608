"""The file of a store: one that is damaged, foreign or cannot be written ends nothing."""

import errno
import os
import random
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


def changed(statement):
    def change(path):
        with sqlite3.connect(path) as file:
            file.execute(statement)
        file.close()

    return change


def name_in_the_schema(path):
    """One bit: the name of a table is no text any more."""
    content = bytearray(path.read_bytes())
    content[content.index(b"CREATE TABLE names") + len(b"CREATE TABLE ")] ^= 0x80
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
        (no_table, "is damaged (table measurements is not what it should be)"),
        (no_database, "is damaged (file is not a database)"),
        (cut_short, "is damaged (database disk image is malformed)"),
        (overwritten, "is damaged ("),
        (a_changed_number, "is damaged (a measurement is not what was written)"),
        (changed("ALTER TABLE measurements DROP COLUMN seconds"), "is damaged (table measurements is not"),
        (changed("ALTER TABLE records ADD COLUMN more"), "is damaged (table records is not what it should be)"),
        (changed("CREATE TABLE more (text)"), "is damaged (a table is not what it should be)"),
        (changed("CREATE TRIGGER t AFTER INSERT ON names BEGIN DELETE FROM names; END"), "is damaged (a table is not"),
        (changed("UPDATE measurements SET sums = 'text'"), "is damaged ("),
        (changed("UPDATE measurements SET seconds = 'text'"), "is damaged ("),
        (changed("UPDATE names SET text = x'ff' WHERE text LIKE '[%'"), "is damaged ("),
        (changed("UPDATE names SET text = CAST(x'ff' AS TEXT) WHERE text LIKE '[%'"), "is damaged ("),
        (name_in_the_schema, "is damaged ("),
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
from predictor.measuring.validity import Context
from predictor.measuring.store import Store
from predictor.effects import Effect
from tests.predictor.measuring.entries import stored
context = Context("w", "n", "l", "p", "t", "d", "m", 1)
with Store.open(Path(sys.argv[1])) as store:
    store.put(context, "b", [("first", Effect.E, stored(1, ("a",)))])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    for number in range(50):
        store.put(context, "b", [(f"format{number}", Effect.E, stored(1, ("a",) * 99))])
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


def kept(path):
    """A store with two measurements and a record."""
    with Store.open(path) as store:
        store.put(CONTEXT, "b", [("f", E, stored(1)), ("g", E, stored(2))])
        store.put_record(CONTEXT, "b", "what", b"content")


def used(path):
    """All that is done with a store; how many measurements it then has."""
    with Store.open(path) as store:
        store.get(CONTEXT, "b", ["f", "g"], Effect)
        store.get_record(CONTEXT, "b", "what", bytes)
        store.put(CONTEXT, "c", [("f", E, stored(1))])
        store.put_record(CONTEXT, "c", "what", b"content")
        return store.info().measurements


@pytest.mark.parametrize("text", ["{", "[]", "3", "null", '"text"', "", "[" * 9999])
def test_a_context_that_is_no_context(path, capsys, text):
    kept(path)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE contexts SET fields = ?", (text,))
    file.close()
    with Store.open(path) as store:
        assert store.info().set_aside == 1
        assert store.clear() == 0
    assert capsys.readouterr().err.count("\n") == 1
    assert set_aside(path) == []


def test_a_record_that_cannot_be_read_is_damage(path, capsys):
    kept(path)
    with Store.open(path) as store:
        assert store.get_record(CONTEXT, "b", "what", bytes) == b"content"
        assert store.get_record(CONTEXT, "b", "what", lambda content: {}[content]) is None
    assert "is damaged (b'content'); it is set aside" in capsys.readouterr().err


def test_one_bit_anywhere_ends_nothing(path, capsys):
    """What comes back is what was written, or nothing."""
    kept(path)
    whole, chosen, wanted = path.read_bytes(), random.Random(0), {("f", E): 1.0, ("g", E): 2.0}
    for _ in range(25):
        for left in path.parent.iterdir():
            left.unlink()
        content = bytearray(whole)
        # Where there is something: most of a page is empty.
        place = chosen.choice([place for place, byte in enumerate(whole) if byte])
        content[place] ^= 1 << chosen.randrange(8)
        path.write_bytes(content)
        with Store.open(path) as store:
            for key, found in store.get(CONTEXT, "b", ["f", "g"], Effect).items():
                assert (found.sums == wanted[key]).all()
            assert store.get_record(CONTEXT, "b", "what", bytes) in (b"content", None)
        used(path)
        with Store.open(path) as store:
            store.clear()
    assert all(line.startswith("warning: ") for line in capsys.readouterr().err.splitlines())


def test_a_store_that_cannot_be_set_aside(path, capsys, monkeypatch):
    filled(path)
    no_table(path)

    def refuse(source, target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(source))

    monkeypatch.setattr(os, "replace", refuse)
    with Store.open(path) as store:
        assert store.get(CONTEXT, "b", ["format1"], [E]) == {}
        store.put(CONTEXT, "b", [("f", E, stored(1))])
        assert not store.keeps
        with pytest.raises(PermissionError, match="cannot be written: nothing was forgotten"):
            store.clear()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "it is damaged (table measurements" in err
    assert "Permission denied" in err


def test_what_is_damaged_again_and_again_is_set_aside_once(path, capsys):
    kept(path)
    with Store.open(path) as store:
        for _ in range(3):
            store.put_record(CONTEXT, "b", "what", b"content")
            assert store.get_record(CONTEXT, "b", "what", lambda content: {}[content]) is None
    assert len(set_aside(path)) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "is set aside" in first
    assert "measurements are not kept" in second


def test_a_store_that_cannot_be_written_is_read(path, capsys, monkeypatch):
    """As SQLite meets one on a read-only file system: it cannot make the files that it puts beside it."""
    kept(path)
    connect = sqlite3.connect

    def read_only(place, **given):
        if not place.endswith("immutable=1"):
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return connect(place, **given)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with Store.open(path) as store:
        assert set(store.get(CONTEXT, "b", ["f", "g"], Effect)) == {("f", E), ("g", E)}
        assert store.get_record(CONTEXT, "b", "what", bytes) == b"content"
        store.put(CONTEXT, "c", [("f", E, stored(1))])
        assert (store.info().measurements, store.keeps) == (2, False)
        with pytest.raises(PermissionError, match=rf"^{path} cannot be written: nothing was forgotten$"):
            store.clear()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cannot be written: what it has is used, and nothing more is kept" in err


def test_names_that_mean_something_in_an_address(tmp_path):
    path = tmp_path / "a?mode=ro#%41 b" / FILE
    kept(path)
    assert used(path) == 3
    assert path.is_file()
