"""Mini-batches whose tensors are changed when one is asked for: all of them need not be there at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.containers import map_tensors, tensors_in

HALVES = (torch.float16, torch.bfloat16)
"""Floating types that are computed with in float32."""


@dataclass(frozen=True, eq=False)
class Mapped(Sequence[Any]):
    """Mini-batches with a function applied to each of their tensors."""

    batches: Sequence[Any]
    function: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return Mapped(self.batches[number], self.function)
        return map_tensors(self.function, self.batches[number])


def widened(t: Tensor) -> Tensor:
    """A tensor of 16-bit floating-point numbers in float32, exactly; others as they are."""
    return t.float() if t.dtype in HALVES else t


def in_float32(batches: Sequence[Any]) -> Sequence[Any]:
    """Mini-batches with `widened` tensors; as they are where the first has none to widen."""
    if not len(batches) or not any(t.dtype in HALVES for t in tensors_in(batches[0])):
        return batches
    return Mapped(batches, widened)


def examples_of(batch: Any) -> int | None:
    """How many examples a mini-batch has; None where its tensors do not share their first axis."""
    counts = {t.shape[0] for t in tensors_in(batch) if t.ndim}
    return counts.pop() if len(counts) == 1 else None


def part_of(batch: Any, first: int, last: int) -> Any:
    """The examples `first` to `last` - 1 of a mini-batch."""
    return map_tensors(lambda t: t[first:last] if t.ndim else t, batch)


def half_of(batch: Any) -> Any:
    """The first half of a mini-batch's samples; None where there are fewer than two, or its tensors do not share their
    first axis."""
    count = examples_of(batch)
    return None if count is None or count < 2 else part_of(batch, 0, count // 2)
