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
from training.methods.layers import MethodLayer, chosen
from training.methods.method import About, MethodSetup, MethodState
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

    OWN = ("alpha.", "mu.", "o.")

    def __init__(self, options: Compensation, setup: MethodSetup):
        super().__init__(setup)
        self.options = options
        self._generators: dict[str, torch.Generator] = {}
        self.meet()

    def takes(self, layer: MethodLayer) -> bool:
        return chosen(layer, self.options.include_linear)

    def begin_layer(self, layer: MethodLayer, generator: torch.Generator) -> None:
        if self.options.shape is CompensationShape.CHANNEL and layer.normalized:
            raise ValueError(
                f"lac: shape 'channel' in layer {layer.site.layer}: the batch normalization after it removes any "
                "constant of a channel; use 'chw'"
            )
        if layer.shape is None:
            self._generators[layer.name] = generator
        else:
            self._draw(layer, layer.shape, generator)

    def _draw(self, layer: MethodLayer, product: tuple[int, ...], generator: torch.Generator) -> None:
        """New parameters for a layer, for a product of this shape."""
        shape = compensation_shape(layer, self.options.shape, product)

        def drawn() -> nn.Parameter:
            return nn.Parameter(INITIAL * torch.randn(shape, generator=generator))

        if not self.options.tied:
            self.parameters[f"alpha.{layer.name}"] = nn.Parameter(torch.ones(shape))
            self.parameters[f"mu.{layer.name}"] = drawn()
        self.parameters[f"o.{layer.name}"] = drawn()

    def site(self, site: Site) -> Quantizers | None:
        return None if self.layer_of(site) is None else Quantizers(output=lambda y: self.at(site, y))

    def at(self, site: Site, y: Tensor) -> Tensor:
        """The output of a site with its compensation, where it has one."""
        layer = self.layer_of(site)
        return y if layer is None else self.compensated(layer, y)

    def added(self, layer: MethodLayer) -> Tensor:
        """What is added to a layer's output, without the batch axis unless it has values for each element."""
        o: Tensor = self.parameters[f"o.{layer.name}"]
        return (
            o if self.options.tied else self.parameters[f"alpha.{layer.name}"] * self.parameters[f"mu.{layer.name}"] + o
        )

    def compensated(self, layer: MethodLayer, y: Tensor) -> Tensor:
        """The output with its compensation. Raises ValueError for a mini-batch of another size than shape 'sample' has
        values for."""
        if f"o.{layer.name}" not in self.parameters:
            self._draw(layer, tuple(y.shape), self._generators[layer.name])
        added = self.added(layer)
        if self.options.shape is CompensationShape.SAMPLE:
            if len(y) > len(added):
                raise ValueError(
                    f"lac: shape 'sample' has values for mini-batches of {len(added)}, not of {len(y)}; use 'chw'"
                )
            added = added[: len(y)]
        elif added.shape[-y.ndim + 1 :] != y.shape[1:] and self.options.shape is CompensationShape.CHW:
            raise ValueError(
                f"lac: layer {layer.name} gives {tuple(y.shape[1:])} after the batch axis, and has a compensation for "
                f"{tuple(added.shape)}; use shape 'channel'"
            )
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


def compensation_shape(layer: MethodLayer, shape: CompensationShape, product: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a layer's compensation parameters, for a product of this shape, batch first."""
    if shape is CompensationShape.SAMPLE:
        return product
    if shape is CompensationShape.CHW:
        return product[1:]
    axis = len(product) + layer.site.channel_axis
    return (product[axis], *(1 for _ in product[axis + 1 :]))
