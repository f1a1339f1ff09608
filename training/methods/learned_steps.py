"""What LSQ and LSQ+ share: their options, and steps and offsets that are learned.

Source: docs/definitions/methods.md sections 6 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from numeric_formats.checks import number
from predictor.flow.sites import Quantizers, Site
from training.export.layer import ExportedLayer
from training.methods.layers import MethodLayer
from training.methods.method import About, MethodSetup, MethodState
from training.quantizers.clipped import SMALLEST_LEARNED_STEP
from training.quantizers.description import FixedStep
from training.quantizers.known_ranges import KnownRanges
from training.quantizers.learned import quantize_by_step
from training.weights import Group

DECAY_OF_BITS = {3: 0.5, 2: 0.25}
"""What weight decay is multiplied by at few bits."""


def signed_grid(bits: int) -> tuple[int, int]:
    """The least and the largest integer of two's complement."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def unsigned_grid(bits: int) -> tuple[int, int]:
    """0 and the largest unsigned integer."""
    return 0, (1 << bits) - 1


def gradient_factor(count: int, high: int) -> float:
    """g = 1 / sqrt(N * high), which makes steps move relative to their size about as fast as weights do."""
    return 1 / math.sqrt(count * high)


@dataclass(frozen=True)
class LearnedSteps:
    """The options that LSQ and LSQ+ share.

    Args:
        weight_bits: Of all weights but those of the network's first and last layer; 2 to 8.
        activation_bits: The same of layers' inputs.
        edge_bits: Of the first and last layer, 2 to 8.
        include_linear: False leaves linear layers in float32.
        per_channel: A step for each output channel of a weight.
        count_batch: N of activations counts the mini-batch too.
        scaled_gradient: Whether gradients of steps are multiplied by g; Adam can do without.
        step_rate: Learning rate of steps relative to that of weights.
        ranges: Of calibration, from which steps begin where it found any (`training.calibration.begin_from`).
    """

    about: ClassVar[About]
    forward: ClassVar[bool] = True
    backward: ClassVar[bool] = False

    weight_bits: int = 4
    activation_bits: int = 4
    edge_bits: int = 8
    include_linear: bool = True
    per_channel: bool = False
    count_batch: bool = False
    scaled_gradient: bool = True
    step_rate: float = 1.0
    ranges: KnownRanges | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.ranges, KnownRanges | None):
            raise ValueError(
                f"{self.about.name}: ranges {self.ranges!r}: --from with a folder of formats quantize sets them"
            )
        for name in ("weight_bits", "activation_bits", "edge_bits"):
            number(f"{self.about.name}: {name}", getattr(self, name), 2, 8, whole=True)
        number(f"{self.about.name}: step_rate", self.step_rate, 0)

    def bits(self, layer: MethodLayer) -> tuple[int, int] | None:
        """Bits of a layer's weight and input; None for a layer left in float32."""
        if not (layer.is_convolution or self.include_linear):
            return None
        return (
            (self.edge_bits, self.edge_bits) if layer.first or layer.last else (self.weight_bits, self.activation_bits)
        )


class LearnedState(MethodState):
    """Steps, and offsets where there are any, of the layers of LSQ and LSQ+; see there for what differs.

    Args:
        options: Of the method.
        setup: Of the run.
        weight_step: First step of a weight, from the weight, its bits, and the dims that share one; None for all.
    """

    OWN = ("step.", "offset.")

    def __init__(
        self,
        options: LearnedSteps,
        setup: MethodSetup,
        weight_step: Callable[[Tensor, int, tuple[int, ...] | None], Tensor],
    ):
        super().__init__(setup)
        self._shared, self._weight_step = options, weight_step
        self._bits: dict[str, tuple[int, int]] = {}
        self._weight_bits: dict[str, int] = {}
        self._user: dict[str, MethodLayer] = {}
        self._bits_of_parameters: dict[str, int] = {}
        self.grids: dict[str, tuple[int, int]] = {}
        self.meet()

    def takes(self, layer: MethodLayer) -> bool:
        return self._shared.bits(layer) is not None

    def begin_layer(self, layer: MethodLayer, generator: torch.Generator) -> None:
        given = self._shared.bits(layer)
        assert given is not None
        self._bits[layer.name] = given
        # A shared weight has one step, at the bits of its first use.
        if layer.parameter not in self._weight_bits:
            self._weight_bits[layer.parameter], self._user[layer.parameter] = given[0], layer
            for name in layer.made_of:
                self._bits_of_parameters.setdefault(name, given[0])
            if not layer.computed:
                self._start_weight(layer, layer.weight)
        elif self._shared.per_channel and not layer.computed and not _same_channels(layer, self._user[layer.parameter]):
            raise ValueError(
                f"{self._shared.about.name}: layers {layer.name} and {self._user[layer.parameter].name} use the weight "
                f"{layer.parameter} with other axes, so that they share no channels; give per_channel=false"
            )

    def _start_weight(self, layer: MethodLayer, w: Tensor) -> None:
        """Make a weight's step, where there is none yet."""
        if f"step.{layer.parameter}" in self.parameters:
            return
        options, bits = self._shared, self._weight_bits[layer.parameter]
        dims = tuple(d for d in range(w.ndim) if d not in layer.output_axes) if options.per_channel else None
        high = signed_grid(bits)[1]
        known = None
        if options.ranges is not None:
            known = options.ranges.weight_step(layer.parameter, high, options.per_channel)
        self._add(layer.parameter, self._weight_step(w, bits, dims) if known is None else known)

    def _add(self, name: str, value: Tensor, kind: str = "step") -> None:
        self.parameters[f"{kind}.{name}"] = nn.Parameter(value.detach().clone())

    def _start_activation(self, layer: MethodLayer, x: Tensor, bits: int) -> None:
        """Make grid, step and offset of a layer's input from its first tensor."""
        raise NotImplementedError

    def site(self, site: Site) -> Quantizers | None:
        layer = self.layer_of(site)
        if layer is None:
            return None
        return Quantizers(input=lambda x: self.activation(layer, x), weight=lambda w: self.weight(layer, w))

    def weight(self, layer: MethodLayer, w: Tensor) -> Tensor:
        """The quantized weight."""
        self._start_weight(layer, w)
        low, high = signed_grid(self._weight_bits[layer.parameter])
        step = self.parameters[f"step.{layer.parameter}"]
        factor = gradient_factor(w.numel() // step.numel(), high) if self._shared.scaled_gradient else 1.0
        return quantize_by_step(w, step, low, high, factor)

    def activation(self, layer: MethodLayer, x: Tensor) -> Tensor:
        """The quantized input."""
        if layer.name not in self.grids:
            self._start_activation(layer, x, self._bits[layer.name][1])
        low, high = self.grids[layer.name]
        count = x.numel() if self._shared.count_batch else math.prod(x.shape[1:])
        # A grid without positive integers has its magnitudes below zero.
        factor = gradient_factor(count, high) if self._shared.scaled_gradient else 1.0
        return quantize_by_step(
            x, self.parameters[f"step.{layer.name}"], low, high, factor, self.parameters.get(f"offset.{layer.name}")
        )

    def group(self, parameter: str) -> Group:
        if parameter in self.parameters:
            return Group(rate=self._shared.step_rate, decay=0.0)
        return Group(decay=DECAY_OF_BITS.get(self._bits_of_parameters.get(parameter, 0), 1.0))

    def state(self) -> dict[str, Any]:
        return {"grids": {name: list(grid) for name, grid in self.grids.items()}}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.grids = {name: (int(low), int(high)) for name, (low, high) in state["grids"].items()}

    def end_step(self) -> None:
        for name, parameter in self.parameters.items():
            if name.startswith("step."):
                # A step of zero or less would ruin the layer.
                parameter.data.clamp_(min=SMALLEST_LEARNED_STEP)

    def exported(self) -> list[ExportedLayer]:
        found = []
        for name, layer in self.layers.items():
            if name not in self.grids:  # no mini-batch has come to it
                continue
            low, high = signed_grid(self._weight_bits[layer.parameter])
            weight, scale = layer.weight.detach(), self.parameters[f"step.{layer.parameter}"].detach()
            codes = (weight / scale).round().clamp(low, high).to(torch.int8)
            offset = self.parameters.get(f"offset.{name}")
            low, high = self.grids[name]
            step = self.parameters[f"step.{name}"].item()
            described = FixedStep(step, None if offset is None else offset.item(), low, high)
            folded = None if offset is None else folded_bias(layer, codes, scale, offset.detach())
            codes, scale = layer.stored(codes), layer.stored(scale)
            found.append(
                ExportedLayer(
                    layer.site.layer,
                    layer.parameter,
                    codes,
                    scale,
                    "integer",
                    name,
                    input=described,
                    folded_bias=folded,
                )
            )
        return found


def _same_channels(one: MethodLayer, other: MethodLayer) -> bool:
    """Whether two uses of one weight see it with the same axes, of which the same are channels."""
    assert one.site.origin is not None
    assert other.site.origin is not None
    return one.site.origin.place == other.site.origin.place and one.output_axes == other.output_axes


def folded_bias(layer: MethodLayer, codes: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """offset * scale * sum(codes) of each output channel: what an offset of the input adds to the output where no
    padding takes part.

    With it the product can be computed from integers alone, (codes . integers of x) * scale * step of x; on borders
    that see padding the true constant is smaller. Source: docs/definitions/methods.md section 7.
    """
    dims = [d for d in range(codes.ndim) if d not in layer.output_axes]
    return (offset * (scale * codes.float()).sum(dims)).float()
