"""Loss-aware compensation of a layer's output, alone or beside a forward method.

Source: Q. Zhou et al., "Octo: INT8 Training with Loss-aware Compensation and Backward Quantization for Tiny On-device
Learning", USENIX ATC 2021; docs/definitions/methods.md section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from numeric_formats.checks import number, one_of
from predictor.flow.sites import Quantizers, Site
from training.methods.method import About, MethodLayer, MethodSetup, MethodState, chosen_layers
from training.weights import Group

INITIAL = 1e-3
"""Deviation of new compensation parameters."""


class CompensationShape(StrEnum):
    """The shape of compensation parameters: a value for each channel and position, each channel, or each element of the
    mini-batch too."""

    CHW = "chw"
    CHANNEL = "channel"
    SAMPLE = "sample"


@dataclass(frozen=True)
class Compensation:
    """Options of loss-aware compensation alone, which may be added to any forward method: y + alpha * mu + o, all three
    learned.

    Args:
        shape: `chw`, `channel` or `sample`, which ties the network to one batch size.
        tied: o alone.
        regularization: lambda of lambda/2 * (|mu|^2 + |o|^2).
        include_linear: Linear layers too.
    """

    about: ClassVar[About] = About(
        name="lac",
        weight="-",
        activation="-",
        error="-",
        gradient="-",
        granularity="outputs: channel and position",
        rounding="-",
        layers="convolutions",
        source="USENIX ATC 2021",
    )
    forward: ClassVar[bool] = False
    backward: ClassVar[bool] = False

    shape: CompensationShape = CompensationShape.CHW
    tied: bool = False
    regularization: float = 0.1
    include_linear: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", one_of("lac: shape", CompensationShape, self.shape))
        number("lac: regularization", self.regularization, 0)

    def start(self, setup: MethodSetup) -> CompensationState:
        """The state for one run. Raises ValueError where batch normalization would remove the compensation."""
        return CompensationState(self, setup)


class _Compensated(torch.autograd.Function):
    """y + added, values for one element of the batch, in the order that y has in memory: torch takes three to twenty
    times as long for mixed orders."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, added: Tensor) -> Tensor:
        last = y.movedim(1, -1)
        return y + added.movedim(0, -1).contiguous().movedim(-1, 0) if last.is_contiguous() else y + added

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, e: Tensor) -> Any:
        last = e.movedim(1, -1)
        if not last.is_contiguous():
            return e, e.sum(0)
        return e, last.reshape(len(e), -1).sum(0).reshape(last.shape[1:]).movedim(-1, 0)


class CompensationState(MethodState):
    """alpha, mu and o of every layer."""

    def __init__(self, options: Compensation, setup: MethodSetup):
        super().__init__()
        self.options = options
        self.layers = chosen_layers(setup, options.include_linear, False, False)
        for layer in self.layers.values():
            if options.shape is CompensationShape.CHANNEL and layer.normalized:
                raise ValueError(
                    f"lac: shape 'channel' in layer {layer.site.layer}: the batch normalization after it removes any "
                    "constant of a channel; use 'chw'"
                )
            shape = compensation_shape(layer, options.shape)

            def drawn(shape: tuple[int, ...] = shape) -> nn.Parameter:
                return nn.Parameter(INITIAL * torch.randn(shape, generator=setup.generator))

            if not options.tied:
                self.parameters[f"alpha.{layer.name}"] = nn.Parameter(torch.ones(shape))
                self.parameters[f"mu.{layer.name}"] = drawn()
            self.parameters[f"o.{layer.name}"] = drawn()

    def site(self, site: Site) -> Quantizers | None:
        layer = self.layers.get(site.name)
        return None if layer is None else Quantizers(output=lambda y: self.compensated(layer, y))

    def added(self, layer: MethodLayer) -> Tensor:
        """What is added to a layer's output, without the batch axis unless it has values for each element."""
        o: Tensor = self.parameters[f"o.{layer.name}"]
        return (
            o if self.options.tied else self.parameters[f"alpha.{layer.name}"] * self.parameters[f"mu.{layer.name}"] + o
        )

    def compensated(self, layer: MethodLayer, y: Tensor) -> Tensor:
        """The output with its compensation. Raises ValueError for a mini-batch of another size than shape 'sample' has
        values for."""
        added = self.added(layer)
        if self.options.shape is CompensationShape.SAMPLE:
            if len(y) > len(added):
                raise ValueError(
                    f"lac: shape 'sample' has values for mini-batches of {len(added)}, not of {len(y)}; use 'chw'"
                )
            added = added[: len(y)]
        return _Compensated.apply(y, added) if y.shape[1:] == added.shape else y + added

    def group(self, parameter: str) -> Group:
        return Group(decay=0.0) if parameter in self.parameters else Group()

    def penalty(self) -> Tensor | None:
        regularized = [p for name, p in self.parameters.items() if not name.startswith("alpha.")]
        return (
            self.options.regularization / 2 * torch.stack([p.square().sum() for p in regularized]).sum()
            if regularized
            else None
        )


def compensation_shape(layer: MethodLayer, shape: CompensationShape) -> tuple[int, ...]:
    """The shape of a layer's compensation parameters; channels of a convolution are axis 1 of its output, of a linear
    layer the last."""
    if shape is CompensationShape.SAMPLE:
        return layer.shape
    if shape is CompensationShape.CHW:
        return layer.shape[1:]
    return (layer.shape[1], *(1 for _ in layer.shape[2:])) if layer.is_convolution else layer.shape[-1:]
