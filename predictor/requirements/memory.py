"""How much memory measuring on a mini-batch takes."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from predictor.flow.dataflow import DataFlow
from predictor.gradient.evaluation import evaluation_mode, same_passes
from predictor.gradient.gradients import measured_parameters
from predictor.gradient.micro_batches import parts_of
from workloads.minibatches import examples_of, part_of
from workloads.workload import Batch, Workload

KEPT_FREE = 0.9
"""The share of a limit that is planned for: freed memory is not all given back."""


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a quantized gradient.

    Attributes:
        weights: of all parameters.
        gradients: the full-precision ones that all others are compared with.
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
    own = {p.untyped_storage()._cdata for p in parameters.values()}
    kept: dict[int, int] = {}

    def seen(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage._cdata not in own:
            # The loss holds it, so that no later one lies in its place.
            kept[storage._cdata] = storage.nbytes()
        return t

    # Attention and recurrent layers are computed as the measured passes compute them.
    with DataFlow(model) as flow, evaluation_mode(flow.model), same_passes(flow.model), torch.enable_grad():
        flow.pointed = False
        with torch.autograd.graph.saved_tensors_hooks(seen, lambda t: t):
            loss = workload.loss_of(flow.model, batch)
        del loss
    sizes = [_bytes(parameters[key]) for key in measured_parameters(model)]
    return Memory(
        weights=sum(map(_bytes, parameters.values())),
        gradients=sum(sizes),
        activations=sum(kept.values()),
        at_hand=3 * max([*sizes, *kept.values()], default=0),
    )


def resident_memory() -> int:
    """Bytes that this process takes now."""
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])


def available_memory() -> int:
    """Bytes that this process can still take, as the kernel reckons it."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(1024 * int(words[1]) for words in lines if words[0] == "MemAvailable:")


def _bytes(t: Tensor) -> int:
    return t.numel() * t.element_size()


def parts_within(workload: Workload, batch: Batch, memory: int, graphs: int) -> int:
    """Into how many micro-batches mini-batches like this one are split, so that a process like this one takes at most
    so many bytes.

    graphs: how many forward passes are kept at a time where none is split.

    Raises:
        ValueError: one example takes more, or the mini-batch cannot be split.
    """
    examples = examples_of(batch)
    if examples is None:
        parts_of(workload, batch, 2)
    assert examples is not None  # else refused
    one, two = (memory_of(workload, part_of(batch, 0, count)) for count in (1, min(2, examples)))
    base = resident_memory()

    def needed(size: int, split: bool) -> float:
        def at(of: str) -> int:
            first = getattr(one, of)
            return int(first + (size - 1) * max(0, getattr(two, of) - first))

        gradients = one.gradients * (2 if split else 1)
        return base + gradients + at("activations") * (1 if split else graphs) + at("at_hand")

    for count in range(1, examples + 1):
        if needed(-(-examples // count), count > 1) <= KEPT_FREE * memory:
            return count
    least = needed(1, True) / KEPT_FREE
    raise ValueError(
        f"--memory {memory / 2**30:.3g}G is too little for workload {workload.name}: one example at a time takes about "
        f"{least / 2**30:.2g}G"
    )
