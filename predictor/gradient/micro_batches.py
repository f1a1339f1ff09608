"""Gradients of a mini-batch from its micro-batches, one after the other, which take less memory
(docs/definitions/prediction.md section 2).

A loss that is a mean over the examples is the mean of the losses of parts, weighted by their examples, and so is its
gradient. Scales are those of the tensors of a micro-batch, as where training accumulates gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from predictor.flow.points import Quantizer
from predictor.gradient.evaluation import same_passes
from predictor.gradient.gradients import Gradients, See, measured_parameters
from workloads.minibatches import examples_of, part_of
from workloads.workload import Batch, Workload

AGREES = 1e-4
"""Relative difference of a loss from the mean of those of its parts, up to which it is one of rounding."""


def parts_of(workload: Workload, batch: Batch, count: int) -> list[tuple[Batch, float]]:
    """A mini-batch in at most so many parts of about equal size, each with its share of the examples.

    Raises:
        ValueError: its tensors do not share their first axis.
    """
    examples = examples_of(batch)
    if examples is None:
        raise ValueError(
            f"the mini-batches of workload {workload.name} cannot be split for --memory: their tensors do not share "
            "their first axis"
        )
    count = min(count, examples)
    ends = [examples * place // count for place in range(count + 1)]
    return [(part_of(batch, first, last), (last - first) / examples) for first, last in pairwise(ends)]


class GradientsOfParts(Gradients):
    """The same as `Gradients`, of a mini-batch whose micro-batches are passed one after the other.

    `forward` only says what is asked, and `backward` makes the passes, after which the loss has its value. `flow` is
    as the last micro-batch left it.

    Args:
        workload: whose network and loss.
        batch: the mini-batch.
        count: of its parts.
        settings: those of `Gradients`, whose graph is never kept.

    Raises:
        ValueError: what `Gradients` raises; a loss that is not the mean of those of the parts; parts that use other
            parameters than the first.
    """

    def __init__(self, workload: Workload, batch: Batch, count: int, **settings: Any):
        super().__init__(workload, batch, **settings | {"kept": False})
        self.parts = parts_of(workload, batch, count)

    def _start(self) -> None:
        self._check_mean()
        whole, (first, share) = self.batch, self.parts[0]
        try:
            self.batch = first
            super()._start()
        finally:
            self.batch = whole
        total, used = share * self.loss.item(), self._used()
        self.full = [share * g for g in self.full]
        for part, share in self.parts[1:]:
            total += share * self._added(part, share, None, None, lambda number, g: self.full[number].add_(g))
            if more := sorted(self._used() - used):
                raise ValueError(
                    f"workload {self.workload.name} cannot be split for --memory: its micro-batches use different "
                    f"parameters, such as {more[0]}"
                )
        self._loss = torch.tensor(total, dtype=torch.float64)
        self._rounded_by[self._loss] = None

    def _used(self) -> set[str]:
        """Names of the parameters that the last pass used."""
        measured = measured_parameters(self.flow.model)
        return {measured[id(p)] for p in self.flow.parameters if id(p) in measured}

    def _check_mean(self) -> None:
        """ValueError where the loss of the first two parts together is not the mean of theirs."""
        workload = self.workload
        (first, a), (second, b) = self.parts[:2]
        middle = examples_of(first)
        last = (middle or 0) + (examples_of(second) or 0)
        with self.closed(), torch.no_grad():
            together, one, two = (self._alone(part) for part in (part_of(self.batch, 0, last), first, second))
        mean = (a * one + b * two) / (a + b)
        if not abs(together - mean) <= AGREES * max(abs(together), abs(mean)):
            raise ValueError(
                f"workload {workload.name} cannot be split for --memory: its loss on {last} examples is "
                f"{together:.6g}, the mean of those of its parts {mean:.6g} (as where statistics are taken over a "
                "mini-batch, or a sum over it)"
            )

    def _alone(self, part: Batch) -> float:
        with same_passes(self.workload.model):
            return float(self.workload.loss_of(self.workload.model, part).item())

    def _added(
        self,
        part: Batch,
        share: float,
        activation: Quantizer | None,
        error: Quantizer | None,
        add: Callable[[int, Tensor], object],
    ) -> float:
        """The loss of a part; its gradients, times its share, are given away as they come, with their places."""

        def see(number: int, g: Tensor, _: Tensor) -> None:
            add(number, share * g)

        whole, self.batch = self.batch, part
        try:
            loss = super().forward(activation)
            super().backward(loss, error, keep=False, see=see)
        finally:
            self.batch = whole
        return loss.item()

    def forward(self, activation: Quantizer | None) -> Tensor:
        """What stands for the loss until `backward` has made the passes."""
        if self._loss is None:  # of the first part
            return super().forward(activation)
        promised = torch.tensor(torch.nan, dtype=torch.float64)
        self._rounded_by[promised] = activation
        return promised

    def backward(self, loss: Tensor, error: Quantizer | None, keep: bool, see: See | None = None) -> list[Tensor]:
        """As of `Gradients`, from new passes over all parts."""
        activation, total, sums = self._rounded_by[loss], 0.0, dict[int, Tensor]()

        def add(number: int, g: Tensor) -> None:
            sums[number] = g if number not in sums else sums[number].add_(g)

        def last(number: int, g: Tensor) -> None:
            add(number, g)
            if see is not None:
                see(number, sums.pop(number), self.full[number])

        for place, (part, share) in enumerate(self.parts, 1):
            total += share * self._added(part, share, activation, error, add if place < len(self.parts) else last)
        loss.fill_(total)
        return [sums[number] for number in range(len(self.full))] if see is None else []
