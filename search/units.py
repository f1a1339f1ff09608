"""Measuring work units: from the store what it has, the rest in this process or in others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from predictor.gradient import Candidate, Effect
from predictor.measure import Measurement, Unit, check_effects, measure_units
from search.context import batch_digest, context_of
from search.store import Store, Stored
from workloads.workload import Batch, Workload


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
    """What measures units. threads: torch's, of each unit. run: the measurements of each unit as it finishes, in any order."""

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
        return measure_units(work.workload, work.candidates, work.batches, units, exact=work.exact, two_terms=work.two_terms)


def measured(
    workload: Workload,
    candidates: Sequence[Candidate],
    batches: Sequence[Batch],
    effects: Sequence[Effect],
    *,
    units: Sequence[tuple[int, int]] | None = None,
    exact: Sequence[str] = (),
    two_terms: bool = True,
    store: Store | None = None,
    executor: Executor | None = None,
) -> Iterator[Measurement]:
    """Every effect of every unit, once: first what the store has, then the rest, which is stored as each unit finishes.

    units: pairs (place in batches, place in candidates), by default all, mini-batch by mini-batch. executor: by default this process; the mini-batches are
    begun in the order of the units, but units of several processes finish in any order.

    Only this process writes the store. Raises what `measure` raises, and ValueError where a workload or a candidate cannot be sent to another process.
    """
    executor = InProcess() if executor is None else executor
    wanted = check_effects(effects)
    if units is None:
        units = [(number, index) for number in range(len(batches)) for index in range(len(candidates))]
    of_batch: dict[int, dict[int, None]] = defaultdict(dict)
    for number, index in units:
        of_batch[number][index] = None
    if store is None:
        missing = [Unit(number, index, wanted) for number, indices in of_batch.items() for index in indices]
        for found in executor.run(Work(workload, candidates, batches, missing, exact, two_terms)):
            yield from found
        return
    context = context_of(workload, exact=exact, two_terms=two_terms, threads=executor.threads)
    keys = {number: batch_digest(batches[number]) for number in of_batch}
    missing = []
    for number, indices in of_batch.items():
        kept = store.get(context, keys[number], [candidates[index].digest for index in indices], wanted)
        for index in indices:
            absent = []
            for effect in wanted:
                stored = kept.get((candidates[index].digest, effect))
                if stored is None:
                    absent.append(effect)
                else:
                    yield Measurement(index, effect, number, stored.layers, stored.sums, stored.seconds)
            if absent:
                missing.append(Unit(number, index, tuple(absent)))
    for found in executor.run(Work(workload, candidates, batches, missing, exact, two_terms)):
        entries = [(candidates[m.format].digest, m.effect, Stored(m.layers, m.sums, m.seconds)) for m in found]
        store.put(context, keys[found[0].minibatch], entries)
        yield from found
