"""The store: bits kept exactly, by two processes at once, and found where everything agrees."""

import sqlite3
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from formats.kernel import BUCKETS
from predictor.effects import Effect
from predictor.measuring.store import Store, Stored, default_path
from tests.predictor.measuring.entries import CONTEXT, filled, stored
from tests.processes import running

E, A, AE = Effect.E, Effect.A, Effect.AE


def test_bits_come_back(path):
    sums = np.array([[0.1, np.nan, -0.0], [np.inf, 5e-324, 1 / 3]])
    sketch = np.arange(2 * BUCKETS, dtype=np.float32).reshape(2, BUCKETS) / 3
    entry = Stored(("conv.weight", "ünï, [code]"), sums, sketch, -0.1, 0.1 + 0.2)
    with Store.open(path) as store:
        store.put(CONTEXT, "batch", [("f", E, entry), ("g", AE, stored(2))])
        assert store.get(CONTEXT, "batch", ["f"], [A, AE]) == {}
    with Store.open(path) as store:
        found = store.get(CONTEXT, "batch", ["f", "h"], [E, A])
        assert list(found) == [("f", E)]
        assert found["f", E].sums.tobytes() == sums.tobytes()
        assert found["f", E].sketch.tobytes() == sketch.tobytes()
        assert found["f", E].loss == -0.1
        assert (found["f", E].parameters, found["f", E].seconds) == (entry.parameters, entry.seconds)
        assert set(store.get(CONTEXT, "batch", ["f", "g"], Effect)) == {("f", E), ("g", AE)}
        assert store.get(CONTEXT, "other", ["f"], [E]) == {}
        for field, value in (
            ("weights", "x"),
            ("network", "x"),
            ("loss", "x"),
            ("points", "x"),
            ("torch", "x"),
            ("threads", 2),
        ):
            assert store.get(replace(CONTEXT, **{field: value}), "batch", ["f"], [E]) == {}, field


def test_what_is_there_stays(path):
    with Store.open(path) as store:
        store.put(CONTEXT, "b", [("f", E, stored(1))])
        store.put(CONTEXT, "b", [("f", E, stored(2)), ("f", A, stored(3))])
        found = store.get(CONTEXT, "b", ["f"], Effect)
        assert found["f", E].sums[0, 0] == 1
        assert found["f", A].sums[0, 0] == 3
        assert store.info().measurements == 2


WRITER = """
import sys
from pathlib import Path
from predictor.measuring.validity import Context
from predictor.measuring.store import Store
from predictor.effects import Effect
from tests.predictor.measuring.entries import stored
context = Context("w", "n", "l", "p", "t", "d", "m", 1)
sys.stdin.readline()  # both begin together
with Store.open(Path(sys.argv[1])) as store:
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        entry = stored(number, ("a",))
        store.put(context, f"batch{number % 5}", [(f"format{number}", e, entry) for e in list(Effect)[:3]])
"""


@pytest.mark.slow
def test_two_processes_at_once(path):
    with ExitStack() as stack:
        spans = (("0", "300"), ("200", "500"))
        writers = [stack.enter_context(running(sys.executable, "-c", WRITER, path, *span)) for span in spans]
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
        for writer in writers:
            _, err = writer.communicate()
            assert (writer.returncode, err) == (0, "")
    with Store.open(path) as store:
        assert store.info().measurements == 500 * 3
        for number in range(500):
            found = store.get(CONTEXT, f"batch{number % 5}", [f"format{number}"], Effect)
            assert {key: entry.sums[0, 2] for key, entry in found.items()} == {
                (f"format{number}", effect): number for effect in (E, A, AE)
            }
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    file.close()


def test_where_it_is(monkeypatch):
    monkeypatch.setenv("FORMATS_CACHE", "/scratch/mine")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_path() == Path("/scratch/mine/measurements.sqlite")
    monkeypatch.delenv("FORMATS_CACHE")
    assert default_path() == Path("/cache/formats/measurements.sqlite")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_path() == Path.home() / ".cache" / "formats" / "measurements.sqlite"


def test_info(path):
    filled(path)
    with Store.open(path) as store:
        store.put(replace(CONTEXT, threads=2), "c", [("format1", E, stored(1)), ("format1", A, stored(1))])
        info = store.info()
        assert (info.path, info.measurements, info.formats, info.minibatches, info.set_aside) == (
            str(path),
            402,
            400,
            2,
            0,
        )
        assert info.bytes >= path.stat().st_size
        assert [(c["threads"], c["measurements"]) for c in info.contexts] == [(1, 400), (2, 2)]
