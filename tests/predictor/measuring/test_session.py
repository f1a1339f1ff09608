"""Work units: the store first, each once, and nothing lost when a run is killed."""

import sqlite3

import pytest

import formats
from formats.pairs import Pair, candidate
from predictor.effects import DEFAULT_EFFECTS, Effect
from predictor.measuring.executors import InProcess, Work
from predictor.measuring.store import FILE, Store
from predictor.measuring.units import Subject, Unit
from predictor.scheme import Scheme
from tests.nets import loss, net
from tests.predictor.measuring.bits import bits, measured
from tests.processes import python

CANDIDATES = [candidate(name) for name in ("FP134", "INT8", "BM43", "FP143+FP152")]
E, A, AE = Effect.E, Effect.A, Effect.AE
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def workload():
    return net()


@pytest.fixture(scope="module")
def all_bits(one_thread, workload):
    units = [Unit(number, index, DEFAULT_EFFECTS) for number in range(4) for index in range(len(CANDIDATES))]
    by_unit = InProcess().run(Work(Subject(workload), CANDIDATES, workload.batches, units))
    return bits(measurement for found in by_unit for measurement in found)


class Counting(InProcess):
    """Counts the units that are really measured."""

    def __init__(self):
        self.units = []

    def run(self, work):
        self.units += work.units
        return super().run(work)


def test_without_a_store(workload, all_bits):
    assert len(all_bits) == 4 * 4 * 3
    assert bits(measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS)) == all_bits
    units = [(2, 1), (0, 3), (2, 0), (2, 1)]
    some = bits(measured(workload, CANDIDATES, workload.batches, [AE, E], units=units))
    assert some == {key: value for key, value in all_bits.items() if key[:2] in units and key[2] is not A}


def test_only_what_is_missing_is_measured(workload, all_bits, tmp_path):
    executor = Counting()
    with Store.open(tmp_path / FILE) as store:
        arguments = {"store": store, "executor": executor}
        bits(measured(workload, CANDIDATES[:2], workload.batches[:2], [E], **arguments))
        assert {(u.minibatch, u.format, u.effects) for u in executor.units} == {
            (n, i, (E,)) for n in (0, 1) for i in (0, 1)
        }
        executor.units.clear()
        # Other places in the lists, one more effect.
        order, places = [CANDIDATES[i] for i in (3, 1, 0)], [3, 1, 0]
        found = bits(measured(workload, order, workload.batches[1:3], [E, AE], **arguments))
        assert {(n + 1, places[i], e): value for (n, i, e), value in found.items()} == {
            key: value for key, value in all_bits.items() if key[0] in (1, 2) and key[1] != 2 and key[2] is not A
        }
        assert {(u.minibatch, u.format, u.effects) for u in executor.units} == {
            *((0, 1, (AE,)), (0, 2, (AE,)), (0, 0, (E, AE))),
            *((1, i, (E, AE)) for i in range(3)),
        }
        executor.units.clear()
        for network in (workload, net()):  # made again, it is the same
            assert bits(measured(network, CANDIDATES, network.batches, DEFAULT_EFFECTS, **arguments)) == all_bits
        executor.units.clear()
        assert bits(measured(net(), CANDIDATES, net().batches, DEFAULT_EFFECTS, **arguments)) == all_bits
        assert executor.units == []
        assert store.info().measurements == len(all_bits)
        # Other settings share nothing.
        bits(measured(workload, CANDIDATES[:1], workload.batches[:1], [A], scheme=Scheme(two_terms=False), **arguments))
        bits(measured(workload, CANDIDATES[:1], workload.batches[:1], [A], exact=["0"], **arguments))
        assert len(executor.units) == 2


def test_what_is_kept_comes_first(workload, tmp_path):
    with Store.open(tmp_path / FILE) as store:
        bits(measured(workload, CANDIDATES, workload.batches, [E], units=[(3, 1), (1, 2)], store=store))
        order = [(m.minibatch, m.format) for m in measured(workload, CANDIDATES, workload.batches, [E], store=store)]
        assert set(order[:2]) == {(3, 1), (1, 2)}
        rest = order[2:]
        assert [number for number, _ in rest] == sorted(number for number, _ in rest)


def test_every_unit_is_kept_when_it_finishes(workload, all_bits, tmp_path):
    def interrupted(m, b):
        interrupted.calls += 1
        if interrupted.calls == 10:  # E shares the mini-batch's own forward pass; A and AE share one
            raise KeyboardInterrupt
        return loss(m, b)

    interrupted.calls = 0
    broken = net(loss=interrupted)
    executor = Counting()
    with Store.open(tmp_path / FILE) as store:
        with pytest.raises(KeyboardInterrupt):
            list(measured(broken, CANDIDATES, broken.batches, DEFAULT_EFFECTS, store=store))
        # A mini-batch takes 1 + 4 passes, the first one more for torch's own: the tenth is of the third format of the
        # second.
        assert store.info().measurements == (4 + 2) * 3
        assert (
            bits(measured(broken, CANDIDATES, broken.batches, DEFAULT_EFFECTS, store=store, executor=executor))
            == all_bits
        )
        assert len(executor.units) == 16 - 6


def test_a_store_that_cannot_be_written_changes_nothing(workload, all_bits, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with Store.open(tmp_path / "file" / FILE) as store:
        assert bits(measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, store=store)) == all_bits
    assert capsys.readouterr().err.count("\n") == 1


def test_pairs_have_their_own_place(workload, tmp_path):
    pair = Pair(formats.get("FP134"), formats.get("INT8"))
    with Store.open(tmp_path / FILE) as store:
        one = bits(measured(workload, [pair], workload.batches[:1], DEFAULT_EFFECTS, store=store))
        other = bits(measured(workload, [CANDIDATES[0]], workload.batches[:1], DEFAULT_EFFECTS, store=store))
    assert one[0, 0, E] != other[0, 0, E]
    assert one[0, 0, A] == other[0, 0, A]


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
import formats
from predictor.effects import DEFAULT_EFFECTS
from predictor.measuring.store import Store
from tests.nets import net, slow_loss
from tests.predictor.measuring.bits import bits, measured

torch.set_num_threads(1)
folder = Path(sys.argv[1])
candidates = formats.catalogue(8, "FP") + formats.catalogue(7, "FP")

def measure(units=None):  # or fewer than this, and then to be killed
    workload = net(loss=slow_loss)
    put, calls = Store.put, []
    def logged(store, context, batch, entries):
        calls.append(batch)
        if len(calls) == units:
            signal.pause()
        entries = list(entries)
        put(store, context, batch, entries)
        with open(folder / "log", "a") as log:
            log.writelines(f"{batch} {format} {effect}\\n" for format, effect, _ in entries)
    Store.put = logged
    with Store.open(folder / "measurements.sqlite") as store:
        return bits(measured(workload, candidates, workload.batches, DEFAULT_EFFECTS, store=store))

(folder / "log").touch()
random.seed(0)
for _ in range(4):
    child = os.fork()
    if not child:
        measure(units=8)
        os._exit(0)
    before = (folder / "log").stat().st_size
    while (folder / "log").stat().st_size == before:  # loading compiled code takes longer than measuring
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print((folder / "log").read_text().count("\\n"))
resumed = measure()
whole = net(loss=slow_loss)
fresh = bits(measured(whole, candidates, whole.batches, DEFAULT_EFFECTS))
assert resumed == fresh
print(len(fresh))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_where_it_was(tmp_path):
    done = python("-c", KILLED, tmp_path, OMP_NUM_THREADS=1)
    *after_kills, total = map(int, done.stdout.split())
    assert after_kills[0] < after_kills[-1] < total, after_kills
    log = (tmp_path / "log").read_text().splitlines()
    # Killed between the write and the log, a unit may miss its line; none has two.
    assert len(set(log)) == len(log)
    assert total - 3 * 4 <= len(log) <= total
    file = sqlite3.connect(tmp_path / FILE)
    assert file.execute("SELECT count(*) FROM measurements").fetchone() == (total,)
    assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    file.close()
    assert "warning" not in done.stderr
