"""Processes that measure units: who gets which, and what becomes of those that a lost one had.

Each process keeps one network and the full-precision gradients of one mini-batch; each gets its units one by one, so
that nobody waits long for the last. At equal numbers of threads the results are those of a single process, bit for bit.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predictor.measuring.executors import Work
from predictor.measuring.messages import Failure, Lost, Reply, Setup, WorkerError, compact, pickled
from predictor.measuring.units import Measurement, Unit
from predictor.measuring.validity import batch_digest

AHEAD = 2
"""Units that a process has at once, so that it never waits for the next."""
ALONE = 4
"""A process joins another's mini-batch where more than this many units for each are left: its full-precision gradients
cost about one."""
LOSSES = 3
"""How often a unit may be lost with its process before that is an error, and how many processes in a row may end before
they are ready."""


@dataclass(eq=False)
class _Member:
    """One process as the one that began sees it. handle: what a pool knows it by. given: units that it has, the first
    in work, each with the key of its job."""

    handle: Any
    ready: bool = False
    setup: object = None
    batch: object = None
    number: int | None = None
    given: deque[tuple[object, Unit]] = field(default_factory=deque)


@dataclass(eq=False)
class _Job:
    """One piece of work on its way. setup: what every process gets first; setup_key stands for it. formats: pickled, by
    place. waiting: units that no process has, by mini-batch. batches: those that were sent, with keys. losses: how
    often a unit was lost."""

    work: Work
    setup: Any
    setup_key: object
    formats: dict[int, bytes]
    waiting: dict[int, deque[Unit]]
    batches: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    losses: Counter[Unit] = field(default_factory=Counter)
    key: object = field(default_factory=object)


class Pool(ABC):
    """Processes that measure units. Use as a context manager: they stay for the next work, and end with it.

    Attributes:
        count: how many processes.
        threads: torch's in each.
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
        job = self._job(work)
        left = len(work.units)
        for member in self._members:
            member.number = None
        while left:
            while len(self._members) < min(self.count, left):
                self._members.append(_Member(self._start()))
            for member in self._members:
                while member.ready and len(member.given) < AHEAD and (unit := self._next(job, member)) is not None:
                    self._give(job, member, unit)
            finished, errors = self._take_in(job)
            left -= len(finished)
            yield from finished
            if errors:
                raise errors[0]

    def _job(self, work: Work) -> _Job:
        """The work, with what is sent of it pickled; WorkerError for a workload or format that cannot be."""
        setup = Setup.of(work.subject, self._dumps)
        if self._last is None or self._last[0] != setup:
            self._last = setup, self._share(self._dumps(setup))
        remedy = "define it where another process can import it from"
        formats = {
            index: pickled(work.candidates[index], f"format {work.candidates[index].name}", remedy, self._dumps)
            for index in dict.fromkeys(unit.format for unit in work.units)
        }
        waiting: dict[int, deque[Unit]] = {}
        for unit in work.units:
            waiting.setdefault(unit.minibatch, deque()).append(unit)
        # Where nothing has changed since the last work, its setup stands for this one's.
        return _Job(work, self._last[1], self._last[0], formats, waiting)

    def _next(self, job: _Job, member: _Member) -> Unit | None:
        """The next unit of its own mini-batch; else, for one with nothing to do, of another."""
        waiting = job.waiting
        if member.number is not None and waiting[member.number]:
            return waiting[member.number].popleft()
        # So that a mini-batch, which fills the pipe, never meets a reply that fills it from the other side.
        if member.given:
            return None
        left = {number: len(units) for number, units in waiting.items() if units}
        if not left:
            return None
        return waiting[self._choose(left, Counter(other.number for other in self._members if other.given))].popleft()

    def _choose(self, left: Mapping[int, int], at_work: Counter[int | None]) -> int:
        """The mini-batch to begin with: the first with enough units for one more, or any. left: units by mini-batch;
        at_work: members."""
        return next((number for number in left if left[number] > ALONE * at_work[number]), next(iter(left)))

    def _give(self, job: _Job, member: _Member, unit: Unit) -> None:
        """Send a unit, after what its process does not have of it yet."""
        if unit.minibatch not in job.batches:
            batch = compact(job.work.batches[unit.minibatch])
            content = pickled(batch, f"mini-batch {unit.minibatch}", "make it of tensors", self._dumps)
            job.batches[unit.minibatch] = self._share(content), (job.setup_key, batch_digest(batch))
        content, key = job.batches[unit.minibatch]
        self._send(
            member.handle,
            job.setup if member.setup is not job.setup_key else None,
            content if member.batch != key else None,
            unit,
            job.formats[unit.format],
        )
        member.setup, member.batch, member.number = job.setup_key, key, unit.minibatch
        member.given.append((job.key, unit))

    def _take_in(self, job: _Job) -> tuple[list[list[Measurement]], list[WorkerError | RuntimeError]]:
        """Wait for replies, and take in all of them before anything can end this: what was measured, and errors."""
        by_handle = {id(member.handle): member for member in self._members}
        finished: list[list[Measurement]] = []
        errors: list[WorkerError | RuntimeError] = []
        for handle, reply in self._wait([member.handle for member in self._members]):
            member = by_handle[id(handle)]
            if isinstance(reply, Lost):
                self._members.remove(member)
                try:
                    for again in self._of_lost(job, member, reply):
                        job.waiting[again.minibatch].appendleft(again)
                except WorkerError as error:
                    errors.append(error)
            elif isinstance(reply, str):
                member.ready, self._lost_starting = True, 0
            else:
                of_job, _ = member.given.popleft()
                if isinstance(reply, Failure):
                    # It may lack what it failed to make.
                    member.setup = member.batch = None
                    if of_job is job.key:
                        errors.append(reply.error())
                elif of_job is job.key:
                    finished.append(reply)
        return finished, errors

    def _of_lost(self, job: _Job, member: _Member, lost: Lost) -> list[Unit]:
        """The units that a lost process had, the last first; WorkerError where trying again will not help."""
        if not member.ready:
            self._lost_starting += 1
            if lost.final or self._lost_starting >= LOSSES:
                raise WorkerError(f"a worker process ended before it was ready: {lost.why}")
        units = [unit for of_job, unit in member.given if of_job is job.key]
        if units:
            job.losses[units[0]] += 1
            if job.losses[units[0]] >= LOSSES:
                name = job.work.candidates[units[0].format].name
                raise WorkerError(
                    f"{LOSSES} worker processes ended while measuring {name} on mini-batch {units[0].minibatch} "
                    f"({lost.why}); with fewer of them, each has more memory"
                )
        return units[::-1]
