"""How much memory measuring a recipe on a mini-batch takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from predictor.evaluation import evaluation_mode, same_passes
from predictor.gradients import measured_parameters
from workloads.workload import Batch, Workload


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a recipe's gradient.

    Attributes:
        weights: of all parameters.
        gradients: the full-precision ones that all recipes are compared with.
        activations: what the forward pass keeps for the backward pass.
        at_hand: what a product takes meanwhile: three times the largest weight or activation.
    """

    weights: int
    gradients: int
    activations: int
    at_hand: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.activations + self.at_hand


def memory_of(workload: Workload, batch: Batch) -> Memory:
    """Of a mini-batch, from one forward pass in full precision."""
    model = workload.model
    parameters = {id(p): p for p in model.parameters()}
    own = {p.untyped_storage().data_ptr() for p in parameters.values()}
    kept: dict[int, int] = {}

    def seen(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            # The loss holds it, so that no later one lies in its place.
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with evaluation_mode(model), same_passes(model), torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(seen, lambda t: t):
            loss = workload.loss_of(model, batch)
        del loss
    sizes = [_bytes(parameters[key]) for key in measured_parameters(model)]
    return Memory(
        weights=sum(map(_bytes, parameters.values())),
        gradients=sum(sizes),
        activations=sum(kept.values()),
        at_hand=3 * max([*sizes, *kept.values()], default=0),
    )


def available_memory() -> int:
    """Bytes that this process can still take, as the kernel reckons it."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(1024 * int(words[1]) for words in lines if words[0] == "MemAvailable:")


def _bytes(t: Tensor) -> int:
    return t.numel() * t.element_size()
