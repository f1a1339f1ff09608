"""What makes a run repeatable: its random numbers, and a fingerprint of what it is made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from numeric_formats.version import NAME, versions_of
from predictor.device import device_of
from workloads.digests import digest, weights_digest
from workloads.workload import Batch, Workload


@contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The network's buffers and torch's random numbers are afterwards what they were before."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    state = random_state(device)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in buffers:
                buffer.copy_(values)
        set_random_state(state, device)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that a network on a device draws from."""
    own = {"generator.device": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"generator": torch.get_rng_state(), **own}


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put what `random_state` gave back."""
    torch.set_rng_state(state["generator"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["generator.device"], device)


def fingerprint(workload: Workload, batches: Sequence[Batch]) -> dict[str, Any]:
    """What a checkpoint must agree with before a run goes on from it."""
    return {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "batches": len(batches),
        "first_batch": digest(batches[0]),
        # Sums have other bits on a GPU.
        "device": device_of(workload).type,
    }


def installation() -> dict[str, Any]:
    """What a run was made with, for its record; a resumed run may be made with another."""
    return {"threads": torch.get_num_threads(), "versions": versions_of("torch", NAME)}
