"""Measuring units in other processes: what goes to them, who gets which unit, and what becomes of those that a lost one
had.

Each process keeps one network and the full-precision gradients of one mini-batch; each gets its units one by one, so
that nobody waits long for the last. At equal numbers of threads the results are those of a single process, bit for bit.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
from torch import Tensor

from numeric_formats.messages import one_line
from predictor.flow.points import map_tensors
from predictor.gradients import Gradients
from predictor.measuring.context import batch_digest
from predictor.measuring.units import Measurement, Unit, Work, measure_unit
from workloads import load
from workloads.digest import weights_digest
from workloads.workload import Batch, Workload

AHEAD = 2
"""Units that a process has at once, so that it never waits for the next."""
ALONE = 4
"""A process joins another's mini-batch where more than this many units for each are left: its full-precision gradients
cost about one."""
LOSSES = 3
"""How often a unit may be lost with its process before that is an error, and how many processes in a row may end before
they are ready."""


class WorkerError(ValueError):
    """A work unit could not be measured in another process, or not be sent there."""


@dataclass(frozen=True)
class Setup:
    """What another process needs beside mini-batch and unit. content: the workload's source and pickled weights, or its
    pickled model and loss."""

    name: str
    source: str | None
    content: bytes
    weights: str
    exact: tuple[str, ...]
    two_terms: bool
    precision: str

    @classmethod
    def of(cls, work: Work, dumps: Callable[[Any], bytes] = pickle.dumps) -> Setup:
        """Of some work; WorkerError where the workload has no source and cannot be pickled."""
        workload = work.workload
        if workload.source is not None:
            content = dumps(workload.model.state_dict())
        else:
            why = "give it as package.module:function or file.py:function, or its model and loss names at the top of a module"
            content = _pickled((workload.model, workload.loss), f"workload {workload.name}", why, dumps)
        precision = torch.get_float32_matmul_precision()
        return cls(
            workload.name,
            workload.source,
            content,
            weights_digest(workload.model),
            tuple(work.exact),
            work.two_terms,
            precision,
        )

    def workload(self) -> Workload:
        """The workload again, without its mini-batches; ValueError where it is another one."""
        if self.source is None:
            model, loss = pickle.loads(self.content)
        else:
            made = load(self.source)
            model, loss = made.model, made.loss
            # The weights of the process that began: what makes the workload may draw others each time.
            model.load_state_dict(pickle.loads(self.content))
        if weights_digest(model) != self.weights:
            raise ValueError(
                f"workload {self.name} has other weights in another process; give it a function that makes the same network"
            )
        torch.set_float32_matmul_precision(self.precision)
        return Workload(self.name, model, [], loss)


def _pickled(value: Any, what: str, remedy: str, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    try:
        return dumps(value)
    except Exception as error:  # whatever an object's own code raises
        raise WorkerError(f"{what} cannot be sent to another process ({one_line(error)}); {remedy}") from error


def _compact(batch: Batch) -> Batch:
    """The same mini-batch; tensors that are part of a larger one, which pickle would send whole, alone and with equal
    strides."""

    def own(tensor: Tensor) -> Tensor:
        if tensor.requires_grad or tensor.untyped_storage().nbytes() == tensor.nbytes:
            return tensor
        copy = tensor.clone()
        return copy if copy.stride() == tensor.stride() else tensor

    return map_tensors(own, batch)


@dataclass(frozen=True)
class Failure:
    """An exception in another process: a line and its traceback."""

    line: str
    trace: str

    def error(self) -> WorkerError:
        """To be raised here."""
        error = WorkerError(self.line)
        error.add_note(self.trace)
        return error


class Worker:
    """What measures units in another process."""

    def __init__(self, threads: int):
        torch.set_num_threads(threads)
        self._workload: Workload | None = None
        self._setup: Setup | None = None
        self._gradients: Gradients | None = None
        self._open = ExitStack()

    def measure(
        self, setup: bytes | None, batch: bytes | None, unit: Unit, format: bytes
    ) -> list[Measurement] | Failure:
        """The measurements of a unit; with a pickled Setup, mini-batch (None: as before) and candidate."""
        try:
            if setup is not None:
                self._forget()
                self._setup = pickle.loads(setup)
                self._workload = self._setup.workload()
            if batch is not None:
                self._forget()
                assert self._setup is not None  # sent first
                assert self._workload is not None
                gradients = Gradients(
                    self._workload, pickle.loads(batch), exact=self._setup.exact, two_terms=self._setup.two_terms
                )
                self._gradients = self._open.enter_context(gradients)
            assert self._gradients is not None  # sent first
            return measure_unit(self._gradients, unit, pickle.loads(format))
        except (ValueError, TypeError, OSError, ImportError) as error:
            return Failure(one_line(error), traceback.format_exc())
        except Exception as error:
            return Failure(
                f"measuring in another process failed: {type(error).__name__}: {one_line(error)}",
                traceback.format_exc(),
            )

    def _forget(self) -> None:
        """No unit is ever measured on a mini-batch that is not its own."""
        self._gradients = None
        self._open.close()


@dataclass(frozen=True)
class Lost:
    """A process that ended by itself. final: whether another would end so too."""

    why: str
    final: bool = False


READY = "ready"
Reply = list[Measurement] | Failure | Lost | str


@dataclass(eq=False)
class _Member:
    """One process as the one that began sees it. handle: what a pool knows it by. given: runs and units that it has,
    the first in work."""

    handle: Any
    ready: bool = False
    setup: object = None
    batch: object = None
    number: int | None = None
    given: deque[tuple[object, Unit]] = field(default_factory=deque)


class Pool(ABC):
    """Processes that measure units. Use as a context manager: they stay for the next work, and end with it.

    count: of processes. threads: of each.
    """

    count: int
    threads: int

    def __init__(self) -> None:
        self._members: list[_Member] = []
        self._last: tuple[Any, bytes] | None = None
        self._lost_starting = 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        members, self._members = self._members, []
        for member in members:
            self._stop(member.handle)

    # What a kind of pool brings.

    @abstractmethod
    def _start(self) -> Any:
        """Begin one process; its handle."""

    @abstractmethod
    def _send(self, handle: Any, setup: Any, batch: Any, unit: Unit, format: bytes) -> None:
        """Give it the arguments of `Worker.measure`."""

    @abstractmethod
    def _wait(self, handles: Sequence[Any]) -> Sequence[tuple[Any, Reply]]:
        """Wait for replies, at least one: READY once, then one a unit in their order, or Lost."""

    @abstractmethod
    def _stop(self, handle: Any) -> None:
        """End it."""

    def _share(self, content: bytes) -> Any:
        """What to send instead of bytes that several processes get."""
        return content

    def _dumps(self, value: Any) -> bytes:
        return pickle.dumps(value)

    # Who gets what.

    def run(self, work: Work) -> Iterator[list[Measurement]]:
        """The measurements of each unit as it finishes, in any order.

        Where a caller stops asking or a unit fails, processes finish what they have and wait for the next work; an
        interrupt ends them.
        """
        if not work.units:
            return
        try:
            yield from self._run(work)
        except (GeneratorExit, WorkerError):
            raise
        except BaseException:
            self.close()
            raise

    def _run(self, work: Work) -> Iterator[list[Measurement]]:
        run = object()
        setup, setup_key = self._setup(work)
        remedy = "define it where another process can import it from"
        formats = {
            index: _pickled(work.candidates[index], f"format {work.candidates[index].name}", remedy, self._dumps)
            for index in dict.fromkeys(unit.format for unit in work.units)
        }
        waiting: dict[int, deque[Unit]] = {}
        for asked in work.units:
            waiting.setdefault(asked.minibatch, deque()).append(asked)
        batches: dict[int, tuple[Any, Any]] = {}
        losses: Counter[Unit] = Counter()
        left = len(work.units)
        for member in self._members:
            member.number = None
        while left:
            while len(self._members) < min(self.count, left):
                self._members.append(_Member(self._start()))
            for member in self._members:
                while member.ready and len(member.given) < AHEAD and (unit := self._next(waiting, member)) is not None:
                    if unit.minibatch not in batches:
                        batch = _compact(work.batches[unit.minibatch])
                        content = _pickled(batch, f"mini-batch {unit.minibatch}", "make it of tensors", self._dumps)
                        batches[unit.minibatch] = self._share(content), (setup_key, batch_digest(batch))
                    content, key = batches[unit.minibatch]
                    new_setup, new_batch = member.setup is not setup_key, member.batch != key
                    self._send(
                        member.handle,
                        setup if new_setup else None,
                        content if new_batch else None,
                        unit,
                        formats[unit.format],
                    )
                    member.setup, member.batch, member.number = setup_key, key, unit.minibatch
                    member.given.append((run, unit))
            by_handle = {id(member.handle): member for member in self._members}
            finished, errors = [], []
            # All replies are taken in before anything can end this.
            for handle, reply in self._wait([member.handle for member in self._members]):
                member = by_handle[id(handle)]
                if isinstance(reply, Lost):
                    self._members.remove(member)
                    try:
                        for again in self._of_lost(member, reply, run, losses, work):
                            waiting[again.minibatch].appendleft(again)
                    except WorkerError as error:
                        errors.append(error)
                elif isinstance(reply, str):
                    member.ready, self._lost_starting = True, 0
                else:
                    of_run, _ = member.given.popleft()
                    if isinstance(reply, Failure):
                        # It may lack what it failed to make.
                        member.setup = member.batch = None
                        if of_run is run:
                            errors.append(reply.error())
                    elif of_run is run:
                        finished.append(reply)
            left -= len(finished)
            yield from finished
            if errors:
                raise errors[0]

    def _setup(self, work: Work) -> tuple[Any, object]:
        """What every process gets first, and an object that stands for it: that of the last work, where nothing has
        changed."""
        setup = Setup.of(work, self._dumps)
        if self._last is None or self._last[0] != setup:
            self._last = setup, self._share(self._dumps(setup))
        return self._last[1], self._last[0]

    def _next(self, waiting: dict[int, deque[Unit]], member: _Member) -> Unit | None:
        """The next unit of its own mini-batch; else, for one with nothing to do, of the first with enough for one more,
        or of any."""
        if member.number is not None and waiting[member.number]:
            return waiting[member.number].popleft()
        if (
            member.given
        ):  # so that a mini-batch, which fills the pipe, never meets a reply that fills it from the other side
            return None
        at_work = Counter(other.number for other in self._members if other.given)
        left = [number for number, units in waiting.items() if units]
        for number in left:
            if len(waiting[number]) > ALONE * at_work[number]:
                return waiting[number].popleft()
        return waiting[left[0]].popleft() if left else None

    def _of_lost(self, member: _Member, lost: Lost, run: object, losses: Counter[Unit], work: Work) -> list[Unit]:
        """The units that a lost process had, the last first; WorkerError where trying again will not help."""
        if not member.ready:
            self._lost_starting += 1
            if lost.final or self._lost_starting >= LOSSES:
                raise WorkerError(f"a worker process ended before it was ready: {lost.why}")
        units = [unit for of_run, unit in member.given if of_run is run]
        if units:
            losses[units[0]] += 1
            if losses[units[0]] >= LOSSES:
                name = work.candidates[units[0].format].name
                raise WorkerError(
                    f"{LOSSES} worker processes ended while measuring {name} on mini-batch {units[0].minibatch} ({lost.why}); "
                    "with fewer of them, each has more memory"
                )
        return units[::-1]


# Processes of this machine.


def _serve(connection: Connection, threads: int) -> None:
    """The main function of a worker process: until the other side closes."""
    worker = Worker(threads)
    try:
        connection.send(READY)
        while True:
            connection.send(worker.measure(*connection.recv()))
    except (EOFError, ConnectionError):
        return


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes begun here never see Ctrl-C, which a terminal sends to all: the one that began them ends them. One that
    comes meanwhile comes later."""
    resource_tracker.ensure_running()  # would lift the block when it begins
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(eq=False)
class _Process:
    process: SpawnProcess
    connection: Connection


class Workers(Pool):
    """Processes of this machine. threads: torch's in each, by default the cores shared out evenly."""

    def __init__(self, count: int, threads: int | None = None):
        super().__init__()
        if count < 1 or (threads is not None and threads < 1):
            raise ValueError(
                f"{count} workers of {'any number of' if threads is None else threads} threads: at least 1 of each is needed"
            )
        self.count = count
        self.threads = max(1, len(os.sched_getaffinity(0)) // count) if threads is None else threads

    def _start(self) -> _Process:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.threads), daemon=True)
        with _without_interrupts():
            process.start()
        # Only the process holds its end now, so that the end of the process is the end of the pipe.
        theirs.close()
        return _Process(process, ours)

    def _send(self, handle: _Process, setup: Any, batch: Any, unit: Unit, format: bytes) -> None:
        with suppress(ConnectionError):  # the next wait finds it lost
            handle.connection.send((setup, batch, unit, format))

    def _wait(self, handles: Sequence[_Process]) -> Sequence[tuple[_Process, Reply]]:
        by_connection = {handle.connection: handle for handle in handles}
        replies: list[tuple[_Process, Reply]] = []
        for connection in wait(list(by_connection)):
            assert isinstance(connection, Connection)
            handle = by_connection[connection]
            try:
                replies.append((handle, connection.recv()))
            except (EOFError, ConnectionError):
                handle.process.join()
                code = handle.process.exitcode or 0
                why = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                # A script that starts workers as it is imported, say, does so every time.
                replies.append((handle, Lost(why, final=code > 0)))
                connection.close()
        return replies

    def _stop(self, handle: _Process) -> None:
        handle.process.terminate()
        handle.process.join(2)
        if handle.process.exitcode is None:
            handle.process.kill()
            handle.process.join()
        handle.connection.close()
