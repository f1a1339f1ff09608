"""Quantizers of activations, and how they are put into a traced network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from training.calibration.grids import Grid
from training.calibration.ranges import Range
from training.calibration.tracing import hooked
from training.quantizers.description import Description


class ActivationQuantizer(nn.Module):
    """Rounds a tensor in a grid over a fixed range."""

    low: Tensor
    high: Tensor

    def __init__(self, grid: Grid, found: Range):
        super().__init__()
        self.grid = grid
        # No part of the state, so that the quantized network's is that of the network.
        self.register_buffer("low", found.low.clone(), persistent=False)
        self.register_buffer("high", found.high.clone(), persistent=False)

    @property
    def described(self) -> Description:
        """As an export holds it. Raises ValueError where none can."""
        return self.grid.described(self.low, self.high)

    def forward(self, x: Tensor) -> Tensor:
        return self.grid(x, self.low, self.high)


ActivationQuantizers = Mapping[tuple[str, str], ActivationQuantizer]
"""By name of the layer and "input" or "output"; layers that read the same tensor share one."""


def input_of(node: fx.Node) -> Any:
    """What a call of a layer reads."""
    return node.args[0] if node.args else node.kwargs["input"]


def _inside_hooks(layer: nn.Module, side: str, quantizer: ActivationQuantizer) -> None:
    """Quantize what a layer's product reads, or gives, by the last hook before it, or the first after it."""
    if side == "output":
        layer.register_forward_hook(lambda _, args, y: quantizer(y), prepend=True)
        return

    def before(_: nn.Module, args: Any, kwargs: Any) -> Any:
        if args:
            return (quantizer(args[0]), *args[1:]), kwargs
        return args, kwargs | {"input": quantizer(kwargs["input"])}

    layer.register_forward_pre_hook(before, with_kwargs=True)


def with_quantizers(module: fx.GraphModule, quantizers: ActivationQuantizers) -> fx.GraphModule:
    """A copy of a traced network with quantizers before, and after, its layers: between a layer's own hooks and the
    product where it has any."""
    made = copy.deepcopy(module)
    graph = made.graph
    between = {key: made.get_submodule(key[0]) for key in quantizers if hooked(made.get_submodule(key[0]))}
    for key, layer in between.items():
        _inside_hooks(layer, key[1], quantizers[key])
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        for side in ("input", "output"):
            quantizer = quantizers.get((node.target, side))
            if quantizer is None or (node.target, side) in between:
                continue
            name = f"{node.target.replace('.', '_')}_{side}_quantizer"
            if not hasattr(made, name):
                made.add_submodule(name, quantizer)
            if side == "input":
                source = input_of(node)
                with graph.inserting_before(node):
                    node.replace_input_with(source, graph.call_module(name, (source,)))
            else:
                with graph.inserting_after(node):
                    placed = graph.call_module(name, (node,))
                node.replace_all_uses_with(placed, delete_user_cb=lambda user, placed=placed: user is not placed)
    graph.lint()
    made.recompile()
    return made.eval()
