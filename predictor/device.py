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
    return workload if chosen == "cpu" else moved_to(workload, chosen)


def moved_to(workload: Workload, device: str) -> Workload:
    """`on_device` for a device that torch has, and not the CPU as it is."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True

    def moved(given: Batches) -> Batches:
        move = partial(_moved, device=device)
        return (lambda size: Mapped(given(size), move)) if callable(given) else Mapped(given, move)

    train, test = (None if given is None else moved(given) for given in (workload.train, workload.test))
    return replace(workload, model=workload.model.to(device), batches=moved(workload.batches), train=train, test=test)


def gpus_for(workers: int, device: str) -> tuple[str, ...]:
    """A GPU for each of so many worker processes, which measures one unit at a time.

    Args:
        workers: How many there are.
        device: "cuda".

    Raises:
        ValueError: Another device, fewer GPUs than workers, or GPUs of several kinds, whose bits differ.
    """
    if device != "cuda":
        raise ValueError(f"device {device!r} with workers: give cuda, of which each worker gets a GPU of its own")
    found = devices()[1:]
    if workers > len(found):
        raise ValueError(f"{workers} workers with device cuda: each gets a GPU of its own, and there are {len(found)}")
    kinds = {torch.cuda.get_device_name(name) for name in found[:workers]}
    if len(kinds) > 1:
        raise ValueError(f"{workers} workers with device cuda: GPUs of several kinds, {', '.join(sorted(kinds))}")
    return tuple(found[:workers])


def device_of(workload: Workload) -> torch.device:
    """Where its parameters are."""
    return next((parameter.device for parameter in workload.model.parameters()), torch.device("cpu"))
