"""A workload on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from predictor.flow.points import map_tensors
from workloads.workload import Batch, Batches, Workload


@dataclass(frozen=True, eq=False)
class _Moved(Sequence[Batch]):
    """Mini-batches, each moved to a device when it is asked for: all of them need not fit there."""

    batches: Sequence[Batch]
    device: str

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return _Moved(self.batches[number], self.device)
        return map_tensors(lambda tensor: tensor.to(self.device), self.batches[number])


def devices() -> list[str]:
    """What a workload can be measured on: the CPU, and the GPUs that torch finds."""
    return ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]


def on_device(workload: Workload, device: str) -> Workload:
    """The workload with its network and its mini-batches on a device.

    The network itself is moved, not a copy. Products of float32 are those of float32 (no TF32) and convolutions repeat
    bit for bit, for all of the process.

    Args:
        workload: what is moved.
        device: "cpu" (as it is), "cuda" (the first GPU), "cuda:1", ...

    Returns:
        The workload, whose mini-batches are moved when they are asked for.

    Raises:
        ValueError: torch does not have the device.
    """
    chosen = "cuda:0" if device == "cuda" else device
    if chosen not in devices():
        raise ValueError(f"device {device!r}: torch {torch.__version__} has {', '.join(devices())} here")
    if chosen == "cpu":
        return workload
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True

    def moved(given: Batches) -> Batches:
        return (lambda size: _Moved(given(size), chosen)) if callable(given) else _Moved(given, chosen)

    train, test = (None if given is None else moved(given) for given in (workload.train, workload.test))
    return replace(workload, model=workload.model.to(chosen), batches=moved(workload.batches), train=train, test=test)


def device_of(workload: Workload) -> torch.device:
    """Where its parameters are."""
    return next((parameter.device for parameter in workload.model.parameters()), torch.device("cpu"))
