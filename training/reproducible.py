"""What makes a run repeatable: its random numbers, and a fingerprint of what it is made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from numeric_formats.version import NAME, VERSION, versions_of
from predictor.device import device_of
from predictor.flow.layers import unwrapped
from predictor.measuring.code_digests import code_digest
from predictor.measuring.validity import batch_digest
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


def fingerprint(workload: Workload, batches: Sequence[Batch], kept: bool) -> dict[str, Any]:
    """What a checkpoint must agree with before a run goes on from it. kept: whether there will be one; otherwise data
    and code, whose digests take a pass over all mini-batches, are left out."""
    return {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "batches": len(batches),
        # Sums have other bits on a GPU.
        "device": device_of(workload).type,
        **(provenance(workload, batches) if kept else {}),
    }


def provenance(workload: Workload, batches: Sequence[Batch]) -> dict[str, str]:
    """What decides the bits of a run beside weights and options: data, code, torch and this distribution."""
    model = unwrapped(workload.model)
    known = [*model.parameters(), *model.state_dict(keep_vars=True).values()]
    # Of mini-batches that are drawn when they are asked for, the same are seen each time.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        data = [batch_digest(batch) for batch in batches]
        test_data = [batch_digest(batch) for batch in _evaluated_on(workload)]
    return {
        "data_digest": digest(data),
        "test_data_digest": digest(test_data),
        "network_digest": code_digest(model, known),
        "loss_digest": code_digest(workload.loss),
        "metric_digest": code_digest(workload.metric),
        "torch": torch.__version__,
        NAME: VERSION,
    }


def _evaluated_on(workload: Workload) -> Sequence[Batch]:
    if workload.test is None or workload.metric is None:
        return ()
    return replace(workload, batches=workload.test).minibatches()


def installation() -> dict[str, Any]:
    """What a run was made with, for its record; a resumed run may have another number of threads."""
    return {"threads": torch.get_num_threads(), "versions": versions_of("torch", NAME)}
