"""What measures units: in this process, in others, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch

from predictor.gradient.gradients import Gradients
from predictor.measuring.units import Measured, Measurement, Subject, Unit, measure_unit
from workloads.workload import Batch


@dataclass(frozen=True, eq=False)
class Work:
    """Units to measure; their numbers are places in `batches` and `candidates`.

    check: is to see the first gradients that are opened in this process, watched; None where nothing is to be checked.
    """

    subject: Subject
    candidates: Sequence[Measured]
    batches: Sequence[Batch]
    units: Sequence[Unit]
    check: Callable[[Gradients], None] | None = None


class Executor(Protocol):
    """What measures units."""

    @property
    def threads(self) -> int:
        """torch's, of each unit."""
        ...

    def run(self, work: Work) -> Iterator[list[Measurement]]:
        """The measurements of each unit as it finishes, in any order."""
        ...


class InProcess:
    """Measures in this process, with torch's threads as they are set."""

    @property
    def threads(self) -> int:
        """torch's threads."""
        return torch.get_num_threads()

    def run(self, work: Work) -> Iterator[list[Measurement]]:
        """The measurements of each unit, mini-batch by mini-batch; the units of one share its full-precision
        gradients."""
        units = sorted(work.units, key=lambda unit: unit.minibatch)
        check = work.check
        for number, group in groupby(units, key=lambda unit: unit.minibatch):
            of_batch, batch = list(group), work.batches[number]
            kept, pointed = (any(needs) for needs in zip(*((u.keeps, u.points) for u in of_batch), strict=True))
            with work.subject.gradients(batch, check is not None, kept, pointed) as gradients:
                if check is not None:
                    check(gradients)
                    check = None
                for unit in of_batch:
                    yield measure_unit(gradients, unit, work.candidates[unit.format])
