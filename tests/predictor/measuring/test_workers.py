"""Worker processes: bits of one process, lost processes, errors, interrupts."""

import os
import pickle
import signal
import sys
from dataclasses import replace

import pytest
import torch

from formats.pairs import candidate
from predictor.effects import DEFAULT_EFFECTS, Effect
from predictor.measuring.messages import Failure, Setup
from predictor.measuring.store import FILE, Store
from predictor.measuring.units import Subject, Unit
from predictor.measuring.workers import Worker, Workers
from predictor.scheme import Scheme
from tests.nets import Breaking, Deadly, Refusing, broken_loss, drawn, loss, net, slow_loss
from tests.predictor.measuring.bits import bits, measured
from tests.processes import ROOT, read_until, running, wait_until
from workloads import Workload, load

CANDIDATES = [candidate(name) for name in ("FP134", "INT8", "BM43", "FP143+FP152", "NF4", "E4M3", "FP134/block32")]
E, A, AE = Effect.E, Effect.A, Effect.AE


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def all_bits(one_thread):
    workload = net()
    return bits(measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS))


@pytest.fixture(scope="module")
def pool():
    with Workers(2, threads=1) as pool:
        yield pool


def pids(pool):
    return {member.handle.process.pid for member in pool._members}


@pytest.mark.slow
def test_two_workers_measure_the_bits_of_one_process(pool, all_bits, tmp_path):
    workload = net()
    with Store.open(tmp_path / FILE) as store:
        given = bits(measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool, store=store))
        assert given == all_bits
        began = pids(pool)
        assert len(began) == 2
        # What workers measured is found by a single process of as many threads.
        assert bits(measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, store=store)) == all_bits
        assert store.info().measurements == len(all_bits)
        assert [context["threads"] for context in store.info().contexts] == [1]
    # Again, and other settings, in the same processes.
    again = measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool, units=[(1, 2), (3, 0)])
    assert bits(again) == {key: value for key, value in all_bits.items() if key[:2] in ((1, 2), (3, 0))}
    for settings in ({"scheme": Scheme(two_terms=False)}, {"exact": ["0"]}):
        here = bits(measured(workload, CANDIDATES[:2], workload.batches, [E, AE], **settings))
        assert bits(measured(workload, CANDIDATES[:2], workload.batches, [E, AE], executor=pool, **settings)) == here
        assert here != {key: value for key, value in all_bits.items() if key[1] < 2 and key[2] is not A}
    assert pids(pool) == began


def test_a_workload_by_name(pool, all_bits):
    workload = load("tests.nets:net")
    assert bits(measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool)) == all_bits
    # It draws its weights; workers take those of this process.
    workload = load("tests.nets:drawn")
    here = bits(measured(workload, CANDIDATES[:2], workload.batches, DEFAULT_EFFECTS))
    assert bits(measured(workload, CANDIDATES[:2], workload.batches, DEFAULT_EFFECTS, executor=pool)) == here
    assert here[0, 0, E] != bits(measured(drawn(), CANDIDATES[:1], workload.batches[:1], [E]))[0, 0, E]
    # A loss that cannot be pickled is no matter: they make their own.
    workload = replace(load("tests.nets:net"), loss=lambda m, b: loss(m, b))
    assert bits(measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool)) == all_bits


def test_channels_last(pool):
    workload = net()
    workload.model.to(memory_format=torch.channels_last)
    batches = [(x.expand(-1, 1, -1, -1).to(memory_format=torch.channels_last), y) for x, y in workload.batches]
    here = bits(measured(workload, CANDIDATES[:3], batches, DEFAULT_EFFECTS))
    assert bits(measured(workload, CANDIDATES[:3], batches, DEFAULT_EFFECTS, executor=pool)) == here


def test_a_worker_opens_a_mini_batch_again_whose_graph_was_not_kept():
    workload = net()
    worker, format = Worker(1), pickle.dumps(CANDIDATES[0])
    setup = pickle.dumps(Setup.of(Subject(workload)))
    for batch, effects in ((pickle.dumps(workload.batches[0]), (Effect.OPERANDS,)), (None, (E, Effect.OPERANDS))):
        found = worker.measure(setup, batch, Unit(0, 0, effects), format)
        assert not isinstance(found, Failure), found
        setup = None
    worker._forget()
    here = bits(measured(workload, CANDIDATES[:1], workload.batches[:1], [E, Effect.OPERANDS]))
    assert bits(found) == here


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(pool, all_bits):
    workload = net(loss=slow_loss)
    found = []
    asked = measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool)
    for measurement in asked:
        found.append(measurement)
        if len(found) in (3, 30):
            os.kill(pool._members[0].handle.process.pid, signal.SIGKILL)
    assert bits(found) == all_bits
    assert 1 <= len(pool._members) <= 2


@pytest.mark.slow
def test_each_process_has_a_device_of_its_own(all_bits):
    """No GPU is at hand: two names of the CPU stand for two."""
    workload = net(loss=slow_loss)
    with Workers(2, threads=1, devices=("cpu:0", "cpu:1")) as pool:
        found, seen = [], set()
        for measurement in measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool):
            found.append(measurement)
            devices = [member.handle.device for member in pool._members]
            assert len(set(devices)) == len(devices)  # never two on one
            seen |= set(devices)
            if len(found) == 5:  # the next gets the device of the one that is lost
                os.kill(pool._members[0].handle.process.pid, signal.SIGKILL)
        assert bits(found) == all_bits
        assert seen == {"cpu:0", "cpu:1"}
    assert sorted(pool._free) == ["cpu:0", "cpu:1"]
    with pytest.raises(ValueError, match="2 workers and 1 devices: one for each is needed"):
        Workers(2, devices=("cpu:0",))


def test_a_worker_takes_what_it_is_sent_to_its_device():
    """Nothing is computed on "meta", which stands for a GPU."""
    workload = net()
    worker = Worker(1, "meta")
    subject = worker._placed(Subject(workload))
    assert {parameter.device.type for parameter in subject.workload.model.parameters()} == {"meta"}
    assert {tensor.device.type for tensor in worker._moved(workload.batches[0])} == {"meta"}


def test_work_that_nobody_wants_any_more(pool, all_bits, tmp_path):
    workload = net(loss=slow_loss)
    for _ in range(3):
        asked = measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool)
        next(asked)
        asked.close()
    # A refusal that comes when its work has been given up is nobody's.
    given_up = tmp_path / "given up"
    candidates = [CANDIDATES[0], Refusing(given_up), Refusing(given_up)]
    asked = measured(workload, candidates, workload.batches[:1], [E], executor=pool)
    next(asked)
    asked.close()
    given_up.touch()
    assert bits(measured(net(), CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool)) == all_bits


@pytest.mark.slow
def test_errors_are_one_line(pool, all_bits):
    workload = net()

    def errors(match, workload, candidates, effects=(E,), **rest):
        with pytest.raises(ValueError, match=match) as caught:
            list(measured(workload, candidates, net().batches, effects, executor=pool, **rest))
        assert "\n" not in str(caught.value)
        return caught.value

    list(measured(workload, CANDIDATES[:1], workload.batches, [E], executor=pool))  # starts the workers
    began = pids(pool)
    error = errors("refusing rounds nothing", workload, [CANDIDATES[0], Refusing()])
    assert "nets.py" in error.__notes__[0]
    errors("^the loss of workload small fails: RuntimeError: no such batch", net(loss=broken_loss), CANDIDATES)
    errors(
        "^measuring in another process failed: RuntimeError: breaking broke", workload, [CANDIDATES[0], Breaking()], [A]
    )
    unsent = Workload("small", workload.model, [], lambda m, b: loss(m, b))
    errors(r"^workload small cannot be sent to another process \(.*lambda.*\); give it as", unsent, CANDIDATES)
    errors("has no function 'absent'", replace(workload, source="tests.nets:absent"), CANDIDATES)
    errors("has other weights in another process", replace(net(), source="tests.nets:doubled"), CANDIDATES)

    class Local(Refusing):
        pass

    errors("^format refusing cannot be sent to another process", workload, [Local()])
    assert bits(measured(workload, CANDIDATES, workload.batches, DEFAULT_EFFECTS, executor=pool)) == all_bits
    assert pids(pool) == began
    errors(
        r"^3 worker processes ended while measuring deadly on mini-batch 2 \(SIGKILL\)",
        workload,
        [Deadly()],
        [A],
        units=[(2, 0)],
    )
    with pytest.raises(ValueError, match="0 workers"):
        Workers(0)


def test_a_fault_of_ours_is_not_told_as_the_users():
    reply = Worker(torch.get_num_threads()).measure(b"no setup", None, Unit(0, 0, (E,)), b"")
    assert isinstance(reply, Failure)
    error = reply.error()
    assert type(error) is RuntimeError
    assert str(error).startswith("measuring in another process failed: UnpicklingError: ")
    assert "Traceback" in error.__notes__[0]


INTERRUPTED = """
import sys
import formats
from predictor.effects import DEFAULT_EFFECTS
from predictor.measuring.workers import Workers
from tests.nets import net, slow_loss
from tests.predictor.measuring.bits import measured

if __name__ == "__main__":
    workload = net(loss=slow_loss, batches=50)
    with Workers(2, threads=1) as pool:
        for found in measured(workload, formats.catalogue(8)[:100], workload.batches, DEFAULT_EFFECTS, executor=pool):
            print(*(member.handle.process.pid for member in pool._members), flush=True)
"""


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_began_them(tmp_path, how):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    with running(sys.executable, script, alone=True, PYTHONPATH=ROOT) as process:
        workers = list(map(int, read_until(process.stdout, " ").split()))
        if how is signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does: all of them get it
        else:
            process.kill()
        _, err = process.communicate()
    wait_until(lambda: all(map(gone, workers)))
    if how is signal.SIGINT:
        assert process.returncode == -signal.SIGINT
        # One traceback, that of the script itself.
        assert err.count("Traceback") == err.count("KeyboardInterrupt") == 1, err
