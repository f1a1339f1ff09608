"""Whether two networks are the same function on a mini-batch, and where they part."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from predictor.gradient.evaluation import evaluation_mode, same_passes
from training.export.layer import Exportable
from workloads.containers import map_tensors, tensors_in
from workloads.copies import copied
from workloads.workload import Batch, Workload

EXACT = 1e-5
"""More than this between outputs of two networks that compute alike, relative to their size, and they do not."""
CALLS = 2
"""Of a network in a row, so that one that remembers is not taken for one that does not."""


@dataclass(frozen=True, eq=False)
class Call:
    """What a loss gives the network that it calls.

    Attributes:
        args: By place.
        kwargs: By name.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Seen(Exception):
    """Ends the loss where the network would begin."""


def first_call(workload: Workload, model: nn.Module, batch: Batch) -> Call:
    """How the loss calls the network in a mini-batch. Raises ValueError where it does not."""
    seen: list[Call] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(Call(args, dict(kwargs)))
        raise _Seen

    # Before hooks of the user's, which will be there again.
    handle = model.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
    try:
        with evaluation_mode(model), torch.no_grad():
            workload.loss(model, batch)
    except _Seen:
        pass
    finally:
        handle.remove()
    if not seen:
        raise ValueError(
            f"the loss of workload {workload.name} does not call the network, so that nothing shows whether "
            "another computes what it computes"
        )
    return seen[0]


def outputs_of(model: nn.Module, call: Call, calls: int = CALLS) -> list[Tensor]:
    """All tensors that a network gives in evaluation, float64 on the CPU, of several calls in a row; its buffers, the
    random numbers and what it is given stay as they are. Raises ValueError where there are none."""
    with evaluation_mode(model), same_passes(model), torch.no_grad():
        given = [
            model(*map_tensors(Tensor.clone, call.args), **map_tensors(Tensor.clone, call.kwargs)) for _ in range(calls)
        ]
        found = [t.detach().double().cpu() for each in given for t in tensors_in(each)]
    if not found:
        raise ValueError(
            f"the network gives a {type(given[0]).__name__}, in which no tensors are seen to compare; let it give "
            "tensors, or mappings, sequences or data classes of them"
        )
    return found


def difference(have: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """|have - want| / |want| over all elements; infinite for other shapes, and where one is no number and the other
    is."""
    if [t.shape for t in have] != [t.shape for t in want]:
        return math.inf
    apart = size = 0.0
    for a, b in zip(have, want, strict=True):
        same = (a == b) | (a.isnan() & b.isnan())
        apart += torch.where(same, 0.0, a - b).square().sum().item()
        size += torch.where(b.isfinite(), b, 0.0).square().sum().item()
    if not apart:
        return 0.0
    return math.sqrt(apart / size) if size and math.isfinite(apart) else math.inf


def evaluated(model: nn.Module, quantized: Exportable, call: Call) -> list[Tensor]:
    """The outputs of evaluation."""
    with quantized.evaluated(copied(model)) as evaluating:
        return outputs_of(evaluating, call)


def where(made: nn.Module, model: nn.Module, quantized: Exportable, call: Call, tolerance: float) -> str:
    """In words, the layer at which a network parts from evaluation; nothing where that cannot be found."""
    with quantized.evaluated(copied(model)) as evaluating:
        layer = first_difference(made, evaluating, call, tolerance)
    return "" if layer is None else f", from layer {layer} on"


def first_difference(have: nn.Module, want: nn.Module, call: Call, tolerance: float) -> str | None:
    """The module of both networks, by its name, whose output is the first to differ by more than a tolerance."""
    results: list[list[tuple[str, list[Tensor]]]] = []
    for model in (have, want):
        seen: list[tuple[str, list[Tensor]]] = []
        handles = [module.register_forward_hook(_keep(seen, name)) for name, module in model.named_modules() if name]
        try:
            outputs_of(model, call)
        finally:
            for handle in handles:
                handle.remove()
        results.append(seen)
    wanted: dict[str, list[list[Tensor]]] = {}
    for name, tensors in results[1]:
        wanted.setdefault(name, []).append(tensors)
    for name, tensors in results[0]:
        if wanted.get(name) and difference(tensors, wanted[name].pop(0)) > tolerance:
            return name
    return None


def _keep(seen: list[tuple[str, list[Tensor]]], name: str) -> Callable[..., None]:
    return lambda _, args, output: seen.append((name, [t.detach().double().cpu() for t in tensors_in(output)]))
