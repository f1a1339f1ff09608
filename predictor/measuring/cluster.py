"""Measuring units on a Ray cluster (the optional extra `cluster`)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from numeric_formats.checks import at_least
from numeric_formats.messages import one_line
from predictor.measuring.greeting import reached
from predictor.measuring.messages import READY, Lost, Reply, WorkerError
from predictor.measuring.pool import Pool
from predictor.measuring.units import Unit
from predictor.measuring.workers import Worker

PATIENCE = 120.0
"""Seconds without any process at work after which a cluster counts as full or gone."""


@dataclass(eq=False)
class _Actor:
    actor: Any
    pending: deque[Any] = field(default_factory=deque)
    began: bool = False


class Cluster(Pool):
    """One process for every `threads` processors of a Ray cluster. Use as a context manager.

    The package must be installed on every node, and a workload's own files must be where they are here. A lost node's
    units are measured again on others. Bits depend on the kind of processor: on a cluster of several kinds, so do
    results.

    Args:
        address: "auto" for the running cluster, or host:port.
        threads: torch's in each process.

    Raises:
        ImportError: Ray is not installed.
        ValueError: there is no cluster at the address, or it has too few processors.
    """

    def __init__(self, address: str = "auto", threads: int = 1):
        super().__init__()
        at_least(f"{threads} threads", threads)
        try:
            # Without its types, so that checking does not depend on whether it is installed.
            ray: Any = import_module("ray")
        except ImportError as error:
            raise ImportError(
                "a cluster needs Ray, which is not installed: pip install 'numeric-formats[cluster]'"
            ) from error
        self._ray, self.threads = ray, threads
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                ray.init(address=reached(address), log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(f"there is no Ray cluster at {address}: {one_line(error)[:200]}") from error
        nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        self.count = sum(int(processors) // threads for processors in nodes)
        if not self.count:
            self.close()
            raise ValueError(f"no node of the Ray cluster at {address} has {threads} processors for one process")
        self._remote = ray.remote(num_cpus=threads, max_restarts=0)(_Remote)

    def close(self) -> None:
        """End all processes, and the connection where it was made here."""
        super().close()
        if self._ours:
            self._ray.shutdown()

    def _start(self) -> _Actor:
        actor = self._remote.remote(self.threads)
        return _Actor(actor, deque([actor.ready.remote()]))

    def _send(self, handle: _Actor, setup: Any, batch: Any, unit: Unit, format: bytes) -> None:
        handle.pending.append(handle.actor.measure.remote(setup, batch, unit, format))

    def _wait(self, handles: Sequence[_Actor]) -> Sequence[tuple[_Actor, Reply]]:
        # A new process may wait for room for ever; units that are being measured may take their time.
        patience = None if any(handle.began and handle.pending for handle in handles) else PATIENCE
        first = {handle.pending[0]: handle for handle in handles if handle.pending}
        done, _ = self._ray.wait(list(first), num_returns=1, timeout=patience)
        if not done:
            raise WorkerError(f"the Ray cluster gave no process in {PATIENCE:.0f} s: it is full or gone")
        return [(first[reference], self._reply(first[reference])) for reference in done]

    def _reply(self, handle: _Actor) -> Reply:
        try:
            reply: Reply = self._ray.get(handle.pending.popleft())
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return Lost(" ... ".join(dict.fromkeys((lines[0], lines[-1].strip()))))
        handle.began = True
        return reply

    def _stop(self, handle: _Actor) -> None:
        self._ray.kill(handle.actor)

    def _share(self, content: bytes) -> Any:
        return self._ray.put(content)

    def _dumps(self, value: Any) -> bytes:
        content: bytes = self._ray.cloudpickle.dumps(value)
        return content


class _Remote(Worker):
    """A worker as an actor."""

    def ready(self) -> str:
        """Once it runs."""
        return READY
