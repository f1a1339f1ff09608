"""How one measures: everything that travels together from a user's call to the last work unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import chain

import torch

from formats.pairs import Candidate
from numeric_formats.checks import at_least
from numeric_formats.progress import Progress, Report, quiet
from predictor.device import gpus_for
from predictor.effects import Effect, Points, check_effects
from predictor.gradient.gradients import Gradients
from predictor.measuring.executors import Executor, InProcess, Work
from predictor.measuring.self_check import Checked, check
from predictor.measuring.store import Store, Stored
from predictor.measuring.units import Measured, Measurement, Subject, Unit
from predictor.measuring.validity import Context, batch_digest, context_of
from predictor.recipes.placed import Placed, recipe_at
from workloads.copies import copied
from workloads.minibatches import half_of
from workloads.workload import Batch

CHECKED = "checked"
"""The name of the record that a check was made."""
MEASURE = "measure"
"""The stage in which exact measurements are made, for progress."""


@dataclass(frozen=True, eq=False)
class Measuring(Subject):
    """What is measured, and how.

    Attributes:
        store: where exact measurements are found and kept; None keeps none.
        executor: what measures the units that the store does not have.
        progress: hears of every step.
        checks: what the flow's check of itself found, by the mini-batch's digest; one entry once it was made.
    """

    store: Store | None = None
    executor: Executor = field(default_factory=InProcess)
    progress: Report = quiet
    checks: dict[str, Checked] = field(default_factory=dict)

    @property
    def checked(self) -> Checked | None:
        """What the check found; None where none was made, since the store had everything."""
        return next(iter(self.checks.values()), None)

    @contextmanager
    def opened(self, batch: Batch, kept: bool = True) -> Iterator[Gradients]:
        """The gradients of one mini-batch, or of its first micro-batch; the first time, the flow checks itself on them
        (`predictor.measuring.self_check`). kept: as for `Gradients`; never at operands, where nothing is asked of the
        full-precision graph a second time."""
        digest = batch_digest(batch)
        check_it = None if self._is_checked(digest) else self._checking(digest)
        pointed = self.points is Points.DATAFLOW
        with self.of_first_part(batch, check_it is not None, kept and pointed, pointed) as gradients:
            if check_it is not None:
                check_it(gradients)
            yield gradients

    def check(self, batch: Batch) -> Checked | str:
        """What the flow's check of itself finds on a mini-batch, where neither this nor the store knows it yet; in
        words why no check can be made, where there is no gradient to compare, or no loss in evaluation mode.

        Raises ValueError where the flow is not what torch computes, or sees nothing of the mini-batch.
        """
        digest = batch_digest(batch)
        if self._is_checked(digest):
            assert self.checked is not None  # as it says
            return self.checked
        # Nobody else needs the flow's gradient here: its passes and torch's, over half of the samples each, cost one
        # over all. Half a mini-batch may be none, so that the whole one decides what is refused.
        with suppress(ValueError):
            if self.parts == 1 and (half := half_of(batch)) is not None:
                # What a network keeps of its passes is not to be of half a mini-batch.
                apart = replace(self, workload=replace(self.workload, model=copied(self.workload.model)))
                if not isinstance(found := self._check_on(apart.gradients(half, True, kept=False), digest), str):
                    return found
        return self._check_on(self.of_first_part(batch, watched=True, kept=False), digest)

    def _check_on(self, gradients: Gradients, digest: str) -> Checked | str:
        """What the check finds on gradients of the mini-batch with this digest, or of a part of it."""
        check_it = self._checking(digest)
        with ExitStack() as opened:
            try:
                opened.enter_context(gradients)
            except Exception as reason:
                flow = gradients.flow
                seen = flow.passes and flow.saw_input and flow.points and flow.gave_output
                # A cause, or another kind: the loss itself failed.
                if seen or reason.__cause__ is not None or not isinstance(reason, ValueError):
                    return " ".join(str(reason).split())
                raise
            check_it(gradients)
        return self.checks[digest]

    def _is_checked(self, digest: str) -> bool:
        """Whether a check was made here, or the store knows of one."""
        if not self.checks and self.store is not None:
            kept = self.store.get_record(self.context(), digest, CHECKED, Checked.from_bytes)
            if kept is not None:
                self.checks[digest] = kept
        return bool(self.checks)

    def _checking(self, digest: str) -> Callable[[Gradients], None]:
        """What makes the check, and keeps it. The context is taken before a flow has put its hooks on the network."""
        context = None if self.store is None else self.context()

        def check_it(gradients: Gradients) -> None:
            self.checks[digest] = check(gradients)
            if self.store is not None and context is not None:
                self.store.put_record(context, digest, CHECKED, self.checks[digest].to_bytes())

        return check_it

    def report(self, stage: str, done: int, total: int) -> None:
        """Tell whoever listens how far a stage is."""
        self.progress(Progress(stage, done, total))

    def context(self, threads: int | None = None) -> Context:
        """What decides the bits of every measurement made so; ValueError where the network holds no numbers.

        threads: of one work unit, by default the executor's.
        """
        self.workload.require_numbers()
        return context_of(self, self.executor.threads if threads is None else threads)

    def measured(
        self,
        candidates: Sequence[Measured],
        batches: Sequence[Batch],
        effects: Sequence[Effect],
        units: Sequence[tuple[int, int]] | None = None,
    ) -> Iterator[Measurement]:
        """Every effect of every unit, once: first what the store has, then the rest, stored as each unit finishes. At
        operands, a format's is that of its recipe.

        units: pairs (place in batches, place in candidates), by default all, mini-batch by mini-batch. The mini-batches
        are begun in the order of the units, but units of several processes finish in any order.

        Only this process writes the store. Raises what `measure` raises, and ValueError where a workload or a candidate
        cannot be sent to another process.
        """
        wanted = check_effects(effects)
        if units is None:
            units = [(number, index) for number in range(len(batches)) for index in range(len(candidates))]
        if self.points is Points.OPERANDS and wanted != (Effect.OPERANDS,):
            plain = [each for each in candidates if not isinstance(each, Placed)]
            yield from self._measured_at_operands(plain, batches, wanted, units)
            return
        of_batch: dict[int, dict[int, None]] = defaultdict(dict)
        for number, index in units:
            of_batch[number][index] = None
        if self.store is None:
            missing = [Unit(number, index, wanted) for number, indices in of_batch.items() for index in indices]
            yield from chain.from_iterable(self._run(candidates, batches, missing))
            return
        context = self.context()
        keys = {number: batch_digest(batches[number]) for number in of_batch}
        if of_batch:
            self._is_checked(keys[min(of_batch)])
        missing = []
        for number, indices in of_batch.items():
            kept = self.store.get(context, keys[number], [candidates[index].digest for index in indices], wanted)
            for index in indices:
                absent = []
                for effect in wanted:
                    stored = kept.get((candidates[index].digest, effect))
                    if stored is None:
                        absent.append(effect)
                    else:
                        yield Measurement(
                            index,
                            effect,
                            number,
                            stored.parameters,
                            stored.sums,
                            stored.sketch,
                            stored.loss,
                            stored.seconds,
                        )
                if absent:
                    missing.append(Unit(number, index, tuple(absent)))
        for found in self._run(candidates, batches, missing):
            entries = [
                (candidates[m.format].digest, m.effect, Stored(m.parameters, m.sums, m.sketch, m.loss, m.seconds))
                for m in found
            ]
            self.store.put(context, keys[found[0].minibatch], entries)
            yield from found

    def _measured_at_operands(
        self,
        candidates: Sequence[Candidate],
        batches: Sequence[Batch],
        effects: Sequence[Effect],
        units: Sequence[tuple[int, int]],
    ) -> Iterator[Measurement]:
        """Each effect is a recipe of its own."""
        placed = [recipe_at(candidate, effect) for candidate in candidates for effect in effects]
        count = len(effects)
        spread = [(number, index * count + place) for number, index in units for place in range(count)]
        for found in self.measured(placed, batches, (Effect.OPERANDS,), spread):
            index, place = divmod(found.format, count)
            yield replace(found, format=index, effect=effects[place])

    def _run(
        self, candidates: Sequence[Measured], batches: Sequence[Batch], units: Sequence[Unit]
    ) -> Iterator[list[Measurement]]:
        if not units:
            return iter(())
        first = batches[min(unit.minibatch for unit in units)]
        digest = batch_digest(first)
        if self._is_checked(digest):
            return self.executor.run(Work(self, candidates, batches, units))
        if isinstance(self.executor, InProcess) and self.parts == 1:
            return self.executor.run(Work(self, candidates, batches, units, self._checking(digest)))
        if isinstance(self.check(first), str):
            with self.opened(first):  # which raises what the check could not be made for
                pass
        return self.executor.run(Work(self, candidates, batches, units))


def executor_of(
    workers: int | None = None, cluster: str | None = None, device: str = "cpu"
) -> AbstractContextManager[Executor]:
    """An executor, to be used as a context manager; this process where neither workers nor a cluster are given.

    Args:
        workers: so many processes, which share torch's threads; with device "cuda" each on a GPU of its own.
        cluster: the address of a Ray cluster, or "auto".
        device: where the workload is.

    Raises:
        ValueError: workers and a cluster, a cluster and a device, fewer than one worker, or more than there are GPUs.
        ImportError: a cluster without Ray.
    """
    if workers is not None and cluster is not None:
        raise ValueError("workers are processes of this machine, a cluster is other machines: give one of the two")
    if device != "cpu" and cluster is not None:
        raise ValueError(f"device {device}: a cluster measures on the CPU; give a device or a cluster")
    if cluster is not None:
        from predictor.measuring.cluster import Cluster

        return Cluster(cluster)
    if workers is None:
        return nullcontext(InProcess())
    at_least(f"{workers} workers", workers)
    from predictor.measuring.workers import Workers

    devices = () if device == "cpu" else gpus_for(workers, device)
    return Workers(workers, max(1, torch.get_num_threads() // workers), devices)
