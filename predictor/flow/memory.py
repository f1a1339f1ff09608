"""Where tensors lie: tensors in one piece of memory are views of the same numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

T = TypeVar("T")


def shape_of(t: Tensor) -> tuple[int, ...]:
    """Of nested tensors, which have none, how many there are."""
    return (t.size(0),) if t.is_nested and t.layout is torch.strided else tuple(t.shape)


def memory_of(t: Tensor) -> torch.UntypedStorage | None:
    """Where a tensor's elements lie, those that are there of a sparse one; None where it does not say, as inside
    function transforms."""
    # What is looked at here is no call of a network.
    with torch._C.DisableTorchFunction():
        try:
            if t.layout is not torch.strided:
                t = t._values() if t.layout is torch.sparse_coo else t.values()
            return t.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return None


def address_of(t: Tensor) -> int:
    """Of a tensor's elements; 0 where they lie nowhere."""
    memory = memory_of(t)
    return 0 if memory is None else memory.data_ptr()


class ByMemory(Generic[T]):
    """Something about pieces of memory, until they are given back."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[StorageWeakRef, T]] = {}

    def put(self, tensors: Iterable[Tensor], value: T) -> None:
        """It holds for the memory of each, whichever view of it is looked at."""
        for t in tensors:
            if (memory := memory_of(t)) is not None:
                self._held[memory._cdata] = StorageWeakRef(memory), value

    def get(self, t: Tensor) -> T | None:
        """What holds for a tensor's memory; None where nothing was put."""
        memory = memory_of(t)
        held = None if memory is None else self._held.get(memory._cdata)
        return None if held is None or held[0].expired() else held[1]

    def __contains__(self, t: Tensor) -> bool:
        return self.get(t) is not None
