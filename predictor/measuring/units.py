"""TODO."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from formats.pairs import Candidate
from numeric_formats.checks import at_least, not_allowed
from predictor.angle import degrees, failed, layer_sums
from predictor.effects import Effect
from predictor.gradients import Gradients
from workloads.workload import Batch, Workload

ALL, FIRST = "all", "first"
"""Scopes: the whole network's gradient, and that of the first parameter in the order of execution; others are layers'
names."""


DEFAULT_EFFECTS = (Effect.E, Effect.A, Effect.AE)


DEFAULT_MINIBATCHES = 8


@dataclass(frozen=True)
class Measurement:
    """One gradient compared with the full-precision one.

    format: index of the candidate. sums: <d,g>, |d|^2, |g|^2 of each layer, (layers, 3). seconds: what it took.
    """

    format: int
    effect: Effect
    minibatch: int
    layers: tuple[str, ...]
    sums: NDArray[np.float64]
    seconds: float

    def angle(self, scope: str = ALL) -> float:
        """Degrees in a scope."""
        return degrees(self._sums(scope))

    def failed(self, scope: str = ALL) -> bool:
        """Whether the quantized gradient is zero or not finite there."""
        return failed(self._sums(scope))

    def _sums(self, scope: str) -> NDArray[np.float64]:
        if scope == ALL:
            return np.asarray(self.sums.sum(0))
        return np.asarray(self.sums[0 if scope == FIRST else self.layers.index(scope)])


@dataclass(frozen=True)
class Unit:
    """What is measured in one go: one candidate on one mini-batch, by their indices, and the effects, in the order E,
    A, AE."""

    minibatch: int
    format: int
    effects: tuple[Effect, ...]


def check_effects(effects: Iterable[str]) -> tuple[Effect, ...]:
    """Effects from their names, in the order E, A, AE, W, WAE; ValueError for others."""
    wanted = {str(effect).upper() for effect in effects}
    for name in sorted(wanted - set(Effect)):
        raise not_allowed("effect", name, Effect)
    if not wanted:
        raise ValueError(f"no effect was given; allowed are {', '.join(Effect)}")
    return tuple(effect for effect in Effect if effect in wanted)


def check_minibatches(
    workload: Workload, minibatches: int | None, batch_size: int | None, default: int | None = None
) -> Sequence[object]:
    """The first mini-batches of a workload; ValueError where there are not as many. None: at most `default`, or all."""
    if minibatches is not None:
        at_least(f"{minibatches} mini-batches", minibatches)
    batches = workload.minibatches(batch_size)
    if minibatches is not None and minibatches > len(batches):
        raise ValueError(f"{minibatches} mini-batches were asked for; workload {workload.name} has {len(batches)}")
    return batches[: default if minibatches is None else minibatches]


def measure_unit(gradients: Gradients, unit: Unit, format: Candidate) -> list[Measurement]:
    """The measurements of one unit, one an effect, on the open gradients of its mini-batch; `format` is its
    candidate."""
    layers, found, began = tuple(gradients.layers), [], time.monotonic()
    for effect, quantized in gradients.quantized(format, unit.effects):
        sums = layer_sums(quantized, gradients.full)
        now = time.monotonic()
        found.append(Measurement(unit.format, effect, unit.minibatch, layers, sums, now - began))
        began = now
    return found


def measure_units(
    workload: Workload,
    candidates: Sequence[Candidate],
    batches: Sequence[object],
    units: Iterable[Unit],
    *,
    exact: Sequence[str] = (),
    two_terms: bool = True,
) -> Iterator[list[Measurement]]:
    """Measure units in their order, unit by unit; neighbours of one mini-batch share its full-precision gradients."""
    for number, of_batch in groupby(units, key=lambda unit: unit.minibatch):
        with Gradients(workload, batches[number], exact=exact, two_terms=two_terms) as gradients:
            for unit in of_batch:
                yield measure_unit(gradients, unit, candidates[unit.format])


def measurements(
    workload: Workload,
    candidates: Sequence[Candidate],
    batches: Sequence[object],
    effects: Sequence[Effect] = DEFAULT_EFFECTS,
    *,
    exact: Sequence[str] = (),
    two_terms: bool = True,
) -> Iterator[Measurement]:
    """Measure every candidate on every mini-batch, mini-batch by mini-batch, so that stopping early leaves common
    ones."""
    units = (Unit(number, index, tuple(effects)) for number in range(len(batches)) for index in range(len(candidates)))
    for found in measure_units(workload, candidates, batches, units, exact=exact, two_terms=two_terms):
        yield from found


@dataclass(frozen=True)
class Work:
    """Units to measure; their indices are places in `batches` and `candidates`."""

    workload: Workload
    candidates: Sequence[Candidate]
    batches: Sequence[Batch]
    units: Sequence[Unit]
    exact: Sequence[str] = ()
    two_terms: bool = True


class Executor(Protocol):
    """What measures units. threads: torch's, of each unit. run: the measurements of each unit as it finishes, in any
    order."""

    @property
    def threads(self) -> int: ...

    def run(self, work: Work) -> Iterator[list[Measurement]]: ...


class InProcess:
    """Measures in this process, with torch's threads as they are set."""

    @property
    def threads(self) -> int:
        """torch's threads."""
        return torch.get_num_threads()

    def run(self, work: Work) -> Iterator[list[Measurement]]:
        """The measurements of each unit, mini-batch by mini-batch."""
        units = sorted(work.units, key=lambda unit: unit.minibatch)
        return measure_units(
            work.workload, work.candidates, work.batches, units, exact=work.exact, two_terms=work.two_terms
        )
