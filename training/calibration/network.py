"""A network for calibration: traced, its batch normalization folded into the layers before it, and how its layers
follow each other.

Source: docs/definitions/calibration.md section 1, step 1 (M. Nagel et al., "A White Paper on Neural Network
Quantization", 2021, section 3.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from predictor.flow.layers import unwrapped
from training.calibration.folded_layer import FoldedLayer
from training.calibration.tracing import hooked, traced
from training.plain_weights import make_plain
from workloads.copies import copied

RELU = frozenset({"ReLU", "relu", "relu_"})
RELU6 = frozenset({"ReLU6", "relu6"})
LEAKY = frozenset({"LeakyReLU", "leaky_relu", "leaky_relu_", "PReLU", "prelu"})
MAXIMUM = frozenset(
    {
        "MaxPool1d",
        "MaxPool2d",
        "MaxPool3d",
        "AdaptiveMaxPool1d",
        "AdaptiveMaxPool2d",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
    }
)
MEAN = frozenset(
    {
        *("AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"),
        *(
            "avg_pool1d",
            "avg_pool2d",
            "avg_pool3d",
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "adaptive_avg_pool3d",
        ),
    }
)
SAME = frozenset(
    {
        "Identity",
        "Dropout",
        "Dropout1d",
        "Dropout2d",
        "Dropout3d",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "contiguous",
    }
)
FLATTEN = frozenset({"Flatten", "flatten"})


class Capped(nn.Module):
    """min(max(x, 0), cap) with a cap of its own for each channel (axis 1): a ReLU6 whose channels were rescaled."""

    cap: Tensor

    def __init__(self, channels: int, cap: float):
        super().__init__()
        self.register_buffer("cap", torch.full((channels,), cap))

    def forward(self, x: Tensor) -> Tensor:
        return torch.minimum(x.relu(), self.cap.reshape(-1, *[1] * (x.ndim - 2)))


@dataclass(eq=False)
class Link:
    """Two layers of which the second reads what the first gives, through operations that treat each channel by itself.

    Attributes:
        first: The layer that gives.
        second: The layer that reads.
        nodes: What lies between, in order.
        activation: none, relu, capped (ReLU6 too) or leaky.
        exclusive: Whether nothing else reads the first's output.
        through_maximum: Whether there is maximum pooling.
        pads: Whether a pooling between them reads zeros at borders.
    """

    first: FoldedLayer
    second: FoldedLayer
    nodes: list[fx.Node]
    activation: str
    exclusive: bool
    through_maximum: bool
    pads: bool


class Network:
    """A copy of a network, traced, in evaluation mode; nothing of the original is changed.

    Only modules are layers: products that are computed with functional calls, or inside torch's attention and recurrent
    modules, are left alone.

    Args:
        model: The original.
        fold: False leaves batch normalization where it is.

    Attributes:
        module: Computes what the original computes, and can be called like it.
        layers: In the order of the forward pass.

    Raises:
        ValueError: That names the module where tracing is impossible.
    """

    def __init__(self, model: nn.Module, fold: bool = True):
        plain = copied(unwrapped(model)).eval()
        make_plain(plain)
        self.module = traced(plain)
        self._modules = dict(self.module.named_modules())
        calls = self._called = self._calls()
        self.layers: list[FoldedLayer] = []
        for node in self.module.graph.nodes:
            known = any(layer.name == node.target for layer in self.layers)
            if node.op == "call_module" and isinstance(self._modules[node.target], _ConvNd | nn.Linear) and not known:
                self.layers.append(FoldedLayer(node.target, node, self._modules[node.target], calls[node.target]))
        if not self.layers:
            raise ValueError("the network has no convolution or linear module to quantize")
        self._look_at_weights()
        if fold:
            self.fold()

    def fold(self) -> None:
        """Put batch normalization into the layers before it."""
        calls = self._calls()
        for layer in self.layers:
            self._fold(layer, calls)
        self.changed()

    def _calls(self) -> Counter[Any]:
        """How often each module is called."""
        return Counter(node.target for node in self.module.graph.nodes if node.op == "call_module")

    def _look_at_weights(self) -> None:
        """Mark layers that share theirs; ValueError for one that has none of its own."""
        users = Counter(
            parameter.untyped_storage().data_ptr()
            for module in self.module.modules()
            for parameter in module._parameters.values()
            if parameter is not None
        )
        for layer in self.layers:
            own = layer.module._parameters
            if own.get("weight") is None:
                raise ValueError(
                    f"layer {layer.name} ({type(layer.module).__name__}) has no parameter as its weight, so that "
                    "nothing can be written into it; make it one before quantizing"
                )
            layer.shared = any(p is not None and users[p.untyped_storage().data_ptr()] > 1 for p in own.values())

    @property
    def folded(self) -> list[str]:
        """Names of the layers that hold a folded batch normalization."""
        return [layer.name for layer in self.layers if layer.gamma is not None]

    @property
    def kept(self) -> list[str]:
        """Names of what has weights of two or more dimensions and is no layer here: recurrent, attention, embedding
        modules, parameters used by calls."""
        own = {layer.name for layer in self.layers}
        quantized = {id(layer.module.weight) for layer in self.layers}
        parameters = dict(self.module.named_parameters())
        found: dict[str, None] = {}
        for node in self.module.graph.nodes:
            name = str(node.target)
            held = (
                self._modules[name].parameters()
                if node.op == "call_module"
                else [parameters[name]]
                if name in parameters
                else []
            )
            # What shares its weight with a layer is quantized with it.
            if name not in own and any(p.dim() >= 2 and id(p) not in quantized for p in held):
                found[name] = None
        return list(found)

    def changed(self) -> None:
        """After a change of the graph."""
        self.module.graph.lint()
        self.module.recompile()
        calls = self._calls()
        # Not those that the graph never called: a loss may.
        for name in self._called.keys() - calls.keys():
            self.module.delete_submodule(str(name))
        self._called = calls
        self._modules = dict(self.module.named_modules())

    def _fold(self, layer: FoldedLayer, calls: Counter[Any]) -> None:
        following = list(layer.node.users)
        if not layer.alone or len(following) != 1 or following[0].op != "call_module":
            return
        norm = self._modules[cast(str, following[0].target)]
        # Without running statistics there is nothing fixed to fold.
        if (
            not isinstance(norm, _BatchNorm)
            or hooked(norm)
            or norm.running_mean is None
            or norm.running_var is None
            or calls[following[0].target] != 1
        ):
            return
        if norm.num_features != layer.outputs or (layer.output_axis == 1 and layer.groups > 1):
            return
        gamma = torch.ones(layer.outputs) if norm.weight is None else norm.weight.detach()
        beta = torch.zeros(layer.outputs) if norm.bias is None else norm.bias.detach()
        factor = gamma.double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = torch.zeros(layer.outputs) if layer.module.bias is None else layer.module.bias.detach()
        shifted = beta.double() + factor * (bias.double() - norm.running_mean.double())
        layer.module.weight.data = (layer.weight.double() * layer.per_output(factor)).to(layer.weight.dtype)
        layer.module.bias = nn.Parameter(shifted.to(layer.weight.dtype))
        layer.gamma, layer.beta = gamma.float().clone(), beta.float().clone()
        following[0].replace_all_uses_with(layer.node)
        self.module.graph.erase_node(following[0])

    def kind(self, node: fx.Node) -> str:
        """What an operation is: the class of a module, the name of a function or method; "" for inputs and parameters,
        and for modules with hooks, which may do anything."""
        if node.op == "call_module":
            module = self._modules[cast(str, node.target)]
            return "" if hooked(module) else type(module).__name__
        if node.op == "call_function":
            return str(getattr(node.target, "__name__", ""))
        return str(node.target) if node.op == "call_method" else ""

    def argument(self, node: fx.Node, place: int, name: str, default: Any) -> Any:
        """An argument of a function or method, or the attribute of a module."""
        if node.op == "call_module":
            return getattr(self._modules[cast(str, node.target)], name, default)
        return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)

    def submodule(self, node: fx.Node) -> Any:
        """The module that a node calls."""
        return self._modules[cast(str, node.target)]

    def activation_after(self, layer: FoldedLayer) -> Callable[[Tensor], Tensor]:
        """The activation that alone reads a layer's output, where it is a ReLU or capped one; else the identity."""
        users = list(layer.node.users)
        kind = self.kind(users[0]) if len(users) == 1 else ""
        if kind in RELU:
            return torch.relu
        if kind in RELU6:
            return nn.functional.relu6
        if kind == "Capped":
            return cast(Callable[[Tensor], Tensor], self.submodule(users[0]))
        return lambda y: y

    def links(self) -> list[Link]:
        """All pairs of layers that follow each other, in the order of the second."""
        by_node = {layer.node: layer for layer in self.layers}
        found = (self._link(layer, by_node) for layer in self.layers if layer.alone)
        return [link for link in found if link is not None]

    def _link(self, second: FoldedLayer, by_node: dict[fx.Node, FoldedLayer]) -> Link | None:
        nodes: list[fx.Node] = []
        activation, maximum, pads = "none", False, False
        node = second.node.args[0] if second.node.args else None
        while isinstance(node, fx.Node) and node not in by_node:
            kind = self.kind(node)
            known = {"relu": RELU, "capped": RELU6 | {"Capped"}, "leaky": LEAKY}
            seen = [name for name, kinds in known.items() if kind in kinds]
            if seen:
                if activation != "none":
                    return None
                activation = seen[0]
            elif kind in MAXIMUM:
                maximum = True
            elif kind in MEAN:
                pads = pads or (
                    "daptive" not in kind and self.argument(node, 3, "padding", 0) not in (0, (0, 0), (0,), (0, 0, 0))
                )
            elif kind in FLATTEN:
                if self.argument(node, 1, "start_dim", 1 if kind == "Flatten" else 0) != 1:
                    return None
            elif kind not in SAME:
                return None
            nodes.insert(0, node)
            node = node.args[0] if node.args else None
        if not isinstance(node, fx.Node):
            return None
        first = by_node[node]
        if (
            not first.alone
            or second.inputs % first.outputs
            or (isinstance(second.module, _ConvNd) and second.inputs != first.outputs)
        ):
            return None
        exclusive = all(len(each.users) == 1 for each in (first.node, *nodes))
        return Link(first, second, nodes, activation, exclusive, maximum, pads)

    def replace_activation(self, node: fx.Node, name: str, module: nn.Module) -> fx.Node:
        """Let a new module compute what a node did; the new node."""
        self.module.add_submodule(name, module)
        with self.module.graph.inserting_after(node):
            made = self.module.graph.call_module(name, (node.args[0],))
        node.replace_all_uses_with(made)
        self.module.graph.erase_node(node)
        self.changed()
        return made

    def replace_relu6(self) -> int:
        """Put ReLU in the place of every ReLU6, which changes what the network computes; how many there were."""
        found = [node for node in self.module.graph.nodes if self.kind(node) in RELU6]
        for node in found:
            self.replace_activation(node, f"{node.name}_relu", nn.ReLU())
        return len(found)
