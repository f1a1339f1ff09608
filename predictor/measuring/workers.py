"""What measures units in another process, and such processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from numeric_formats.faults import told
from numeric_formats.messages import one_line
from predictor.device import moved_to
from predictor.gradient.gradients import Gradients
from predictor.measuring.messages import READY, Failure, Lost, Reply
from predictor.measuring.pool import Pool
from predictor.measuring.units import Measurement, Subject, Unit, measure_unit
from workloads.containers import map_tensors
from workloads.workload import Batch


class Worker:
    """What measures units in another process.

    Args:
        threads: torch's.
        device: where it measures; None for the CPU.
    """

    def __init__(self, threads: int, device: str | None = None):
        torch.set_num_threads(threads)
        self._device = device
        self._subject: Subject | None = None
        self._gradients: Gradients | None = None
        self._open = ExitStack()

    def measure(
        self, setup: bytes | None, batch: bytes | None, unit: Unit, format: bytes
    ) -> list[Measurement] | Failure:
        """The measurements of a unit; with a pickled Setup, mini-batch (None: as before) and candidate."""
        try:
            if setup is not None:
                self._forget()
                self._subject = self._placed(pickle.loads(setup).subject())
            if batch is not None:
                self._on(self._moved(pickle.loads(batch)), unit.keeps, unit.points)
            of = self._gradients
            assert of is not None  # sent first
            if (unit.keeps and not of.kept) or (unit.points and not of.pointed):
                self._on(of.batch, unit.keeps or of.kept, unit.points or of.pointed)
            assert self._gradients is not None
            return measure_unit(self._gradients, unit, pickle.loads(format))
        except Exception as error:
            ours, line = told(error) is None, one_line(error)
            if ours or not isinstance(error, ValueError | TypeError | OSError | ImportError):
                line = f"measuring in another process failed: {type(error).__name__}: {line}"
            return Failure(line, traceback.format_exc(), ours)

    def _placed(self, subject: Subject) -> Subject:
        return subject if self._device is None else replace(subject, workload=moved_to(subject.workload, self._device))

    def _moved(self, batch: Batch) -> Batch:
        return batch if self._device is None else map_tensors(lambda tensor: tensor.to(self._device), batch)

    def _on(self, batch: Batch, kept: bool, pointed: bool) -> None:
        self._forget()
        assert self._subject is not None  # sent first
        self._gradients = self._open.enter_context(self._subject.gradients(batch, False, kept, pointed))

    def _forget(self) -> None:
        """No unit is ever measured on a mini-batch that is not its own."""
        self._gradients = None
        self._open.close()


# Processes of this machine.


def _serve(connection: Connection, threads: int, device: str | None) -> None:
    """The main function of a worker process: until the other side closes."""
    worker = Worker(threads, device)
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
    device: str | None


class Workers(Pool):
    """Processes of this machine. Use as a context manager.

    Args:
        count: how many.
        threads: torch's in each, by default the cores shared out evenly.
        devices: one for each, where they measure; none for the CPU.

    Raises:
        ValueError: fewer than one process or thread, or not as many devices.
    """

    def __init__(self, count: int, threads: int | None = None, devices: Sequence[str] = ()):
        super().__init__()
        if count < 1 or (threads is not None and threads < 1):
            of = "any number of" if threads is None else threads
            raise ValueError(f"{count} workers of {of} threads: at least 1 of each is needed")
        if devices and len(devices) != count:
            raise ValueError(f"{count} workers and {len(devices)} devices: one for each is needed")
        self.count, self._free = count, [*devices]
        self.threads = max(1, len(os.sched_getaffinity(0)) // count) if threads is None else threads

    def _start(self) -> _Process:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        device = self._free.pop(0) if self._free else None
        process = context.Process(target=_serve, args=(theirs, self.threads, device), daemon=True)
        with _without_interrupts():
            process.start()
        # Only the process holds its end now, so that the end of the process is the end of the pipe.
        theirs.close()
        return _Process(process, ours, device)

    def _ended(self, handle: _Process) -> None:
        handle.connection.close()
        if handle.device is not None:
            self._free.append(handle.device)

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
                self._ended(handle)
        return replies

    def _stop(self, handle: _Process) -> None:
        handle.process.terminate()
        handle.process.join(2)
        if handle.process.exitcode is None:
            handle.process.kill()
            handle.process.join()
        self._ended(handle)
