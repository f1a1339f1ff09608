"""A workload on a GPU."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from workloads.minibatches import Mapped
from workloads.workload import Batches, Workload


def _moved(t: Tensor, device: str) -> Tensor:
    return t.to(device)


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
        move = partial(_moved, device=chosen)
        return (lambda size: Mapped(given(size), move)) if callable(given) else Mapped(given, move)

    train, test = (None if given is None else moved(given) for given in (workload.train, workload.test))
    return replace(workload, model=workload.model.to(chosen), batches=moved(workload.batches), train=train, test=test)


def device_of(workload: Workload) -> torch.device:
    """Where its parameters are."""
    return next((parameter.device for parameter in workload.model.parameters()), torch.device("cpu"))
