"""The store: bits kept exactly, files that are damaged, foreign or cannot be written, and what a context tells
apart."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from predictor.effects import Effect
from predictor.measuring.context import Context, batch_digest, context_of
from predictor.measuring.fingerprint import code_digest
from predictor.measuring.store import FILE, Store, Stored, default_path
from tests.nets import net

CONTEXT = Context("w", "n", "l", "p", "t", "d", "m", 1)
E, A, AE = Effect.E, Effect.A, Effect.AE


def stored(value, layers=("a", "b")):
    return Stored(layers, np.full((len(layers), 3), value, np.float64), 0.25)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / FILE


def set_aside(path):
    return sorted(
        entry.name
        for entry in path.parent.iterdir()
        if "set-aside" in entry.name and not entry.name.endswith(("-wal", "-shm"))
    )


def test_bits_come_back(path):
    sums = np.array([[0.1, np.nan, -0.0], [np.inf, 5e-324, 1 / 3]])
    entry = Stored(("conv.weight", "ünï, [code]"), sums, 0.1 + 0.2)
    with Store.open(path) as store:
        store.put(CONTEXT, "batch", [("f", E, entry), ("g", AE, stored(2))])
        assert store.get(CONTEXT, "batch", ["f"], [A, AE]) == {}
    with Store.open(path) as store:
        found = store.get(CONTEXT, "batch", ["f", "h"], [E, A])
        assert list(found) == [("f", E)]
        assert found["f", E].sums.tobytes() == sums.tobytes()
        assert (found["f", E].layers, found["f", E].seconds) == (entry.layers, entry.seconds)
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
import numpy as np
from pathlib import Path
from predictor.measuring.context import Context
from predictor.measuring.store import Store, Stored
from predictor.effects import Effect
context = Context("w", "n", "l", "p", "t", "d", "m", 1)
sys.stdin.readline()  # both begin together
with Store.open(Path(sys.argv[1])) as store:
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        store.put(context, f"batch{number % 5}", [(f"format{number}", e, Stored(("a",), np.full((1, 3), number), 1.0)) for e in list(Effect)[:3]])
"""


def test_two_processes_at_once(path):
    command = [sys.executable, "-c", WRITER, path]
    writers = [
        subprocess.Popen(
            [*command, *span],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": "."},
        )
        for span in (("0", "300"), ("200", "500"))
    ]
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        _, err = writer.communicate(timeout=120)
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


def filled(path, rows=400):
    with Store.open(path) as store:
        for number in range(rows // 50):
            store.put(CONTEXT, "b", [(f"format{number * 50 + i}", E, stored(i, ("a",) * 20)) for i in range(50)])


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


def test_a_full_disk_is_one_line(path):
    """A limit on the size of files stands for it: the same write fails."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, path],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": "."},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: measurements are not kept in ")
    assert done.stderr.count("\n") == 1
    with Store.open(path) as store:
        assert 0 < store.info().measurements < 51


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


# What decides bits, and what does not.


def helper(x):
    return x.square().mean()


def test_contexts_tell_apart_what_decides_bits():
    workload = net()
    base = context_of(workload)
    assert context_of(net()) == base
    seen = {base.digest}

    def other(context):
        assert context.digest not in seen
        seen.add(context.digest)

    other(context_of(workload, exact=["0"]))
    other(context_of(workload, two_terms=False))
    other(context_of(workload, threads=base.threads + 1))
    other(context_of(net(seed=1)))
    changed = net()
    changed.model[1] = nn.GELU()  # no weights, another function
    other(context_of(changed))
    changed.model[1] = nn.LeakyReLU(0.1)
    other(context_of(changed))
    changed.model[1].negative_slope = 0.2
    other(context_of(changed))
    changed = net()
    changed.model.to(memory_format=torch.channels_last)
    other(context_of(changed))
    changed = net()
    changed.model[0].weight.requires_grad_(False)
    other(context_of(changed))
    changed = net()
    changed.model[2].register_forward_hook(lambda module, args, output: output * 2)
    other(context_of(changed))
    changed = net()
    changed.model.train()
    assert context_of(changed) == base


def test_losses_are_told_apart_by_what_they_compute():
    def make(scale, power=2, weight=None):
        return lambda m, b: (F.cross_entropy(m(b[0]), b[1], weight=weight) * scale) ** power

    def nested(scale):
        def inner(x):
            return sum(x * scale for _ in range(3))

        return lambda m, b: inner(m(b))

    class Loss:
        def __init__(self, scale):
            self.scale = scale

        def __call__(self, m, b):
            return helper(m(b)) * self.scale

    values = [
        *(make(1.0), make(2.0), make(1.0, 3), make(1.0, weight=torch.ones(10)), make(1.0, weight=torch.zeros(10))),
        *(nested(1), nested(2), Loss(1), Loss(2), nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        *(lambda m, b: helper(m(b)), lambda m, b: m(b).mean(), lambda m, b: -m(b).mean(), lambda m, b: m(b).mean() + 1),
    ]
    digests = [code_digest(value) for value in values]
    assert len(set(digests)) == len(digests)
    again = [
        make(1.0),
        make(2.0),
        make(1.0, 3),
        make(1.0, weight=torch.ones(10)),
        make(1.0, weight=torch.zeros(10)),
        nested(1),
        nested(2),
    ]
    assert [code_digest(value) for value in again] == digests[:7]


def test_a_function_that_a_loss_calls_counts(monkeypatch):
    def loss(m, b):
        return helper(m(b))

    before = code_digest(loss)
    monkeypatch.setitem(globals(), "helper", lambda x: x.square().sum())
    assert code_digest(loss) != before


def test_fingerprints_are_equal_in_every_process():
    code = (
        "from predictor.measuring.context import context_of, batch_digest; from tests.nets import net; "
        "print(context_of(net(), threads=1).digest, batch_digest(net().batches[1]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=os.environ | {"PYTHONPATH": ".", "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{context_of(net(), threads=1).digest} {batch_digest(net().batches[1])}\n"}


def test_strides_of_a_minibatch_count():
    x = torch.randn(2, 3, 4, 5)
    assert batch_digest((x, 1)) == batch_digest((x.clone(), 1))
    assert batch_digest((x, 1)) != batch_digest((x.contiguous(memory_format=torch.channels_last), 1))
