"""Octo: INT8 in both passes, with a learned compensation of the forward error and clipped ranges in the backward pass.

Source: Q. Zhou et al., "Octo: INT8 Training with Loss-aware Compensation and Backward Quantization for Tiny On-device
Learning", USENIX ATC 2021, and the authors' demonstration; docs/definitions/methods.md section 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import formats
from formats import Format, Rounding
from formats.spelling import Family
from numeric_formats.checks import not_allowed, number, one_of
from predictor.flow.sites import Quantizers, Site
from training.methods.method import (
    About,
    ExportedLayer,
    Layer,
    Run,
    Setup,
    chosen_layers,
    digests,
    error_quantizer,
    exported_absmax,
)
from training.quantizers.clipped import (
    SMALLEST_STEP,
    Clipped,
    absmax,
    asymmetric_range,
    clipped_range,
    range_clip,
    straight_through,
)
from training.scheme import mode_arguments
from training.weights import Group, Streams

INITIAL = 1e-3
"""Deviation of new compensation parameters."""


class Shape(StrEnum):
    """The shape of compensation parameters: a value for each channel and position, each channel, or each element of the
    mini-batch too."""

    CHW = "chw"
    CHANNEL = "channel"
    SAMPLE = "sample"


class Arithmetic(StrEnum):
    """How Octo computes: eight bits with exact zero points, or as the authors' demonstration does."""

    EXACT = "exact"
    DEMO = "octo-demo"


@dataclass(frozen=True)
class Compensation:
    """Options of loss-aware compensation alone, which may be added to any forward method: y + alpha * mu + o, all three
    learned.

    shape: chw, channel or sample (ties the network to one batch size). tied: o alone. regularization: lambda of
    lambda/2 * (|mu|^2 + |o|^2).
    include_linear: linear layers too.
    """

    about: ClassVar[About] = About(
        "lac", "-", "-", "-", "-", "outputs: channel and position", "-", "convolutions", "USENIX ATC 2021"
    )
    forward: ClassVar[bool] = False
    backward: ClassVar[bool] = False

    shape: Shape = Shape.CHW
    tied: bool = False
    regularization: float = 0.1
    include_linear: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", one_of("lac: shape", Shape, self.shape))
        number("lac: regularization", self.regularization, 0)

    def start(self, setup: Setup) -> CompensationRun:
        """The state for one run. Raises ValueError where batch normalization would remove the compensation."""
        return CompensationRun(self, setup)


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


class CompensationRun(Run):
    """alpha, mu and o of every layer."""

    def __init__(self, options: Compensation, setup: Setup):
        super().__init__()
        self.options = options
        self.layers = chosen_layers(setup, options.include_linear, False, False)
        for layer in self.layers.values():
            if options.shape is Shape.CHANNEL and layer.normalized:
                raise ValueError(
                    f"lac: shape 'channel' in layer {layer.site.layer}: the batch normalization after it removes any constant of a channel; use 'chw'"
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

    def added(self, layer: Layer) -> Tensor:
        """What is added to a layer's output, without the batch axis unless it has values for each element."""
        o: Tensor = self.parameters[f"o.{layer.name}"]
        return (
            o if self.options.tied else self.parameters[f"alpha.{layer.name}"] * self.parameters[f"mu.{layer.name}"] + o
        )

    def compensated(self, layer: Layer, y: Tensor) -> Tensor:
        """The output with its compensation. Raises ValueError for a mini-batch of another size than shape 'sample' has
        values for."""
        added = self.added(layer)
        if self.options.shape is Shape.SAMPLE:
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


def compensation_shape(layer: Layer, shape: Shape) -> tuple[int, ...]:
    """The shape of a layer's compensation parameters; channels of a convolution are axis 1 of its output, of a linear
    layer the last."""
    if shape is Shape.SAMPLE:
        return layer.shape
    if shape is Shape.CHW:
        return layer.shape[1:]
    return (layer.shape[1], *(1 for _ in layer.shape[2:])) if layer.is_convolution else layer.shape[-1:]


@dataclass(frozen=True)
class Octo:
    """Options of Octo.

    format: weights and everything in the backward pass; activations are asymmetric integers of as many bits where it is
    INTn, else of this format too. error_format: errors, None for `format`. clip: what ranges are multiplied by in the
    backward pass. rounding: nearest or stochastic, of the forward pass.
    compensation, shape, tied, regularization: as `Compensation` says. clip_output: clip compensated outputs to the same
    part of their range.
    reuse_forward_codes: the backward products take what the forward pass computed with, instead of clipping and
    rounding anew.
    include_linear: linear layers too. arithmetic: exact or octo-demo, the published demonstration's: 511 levels drawn
    by stochastic rounding and zero points left out in the forward pass, half ranges and no clamp in the backward pass;
    INT8 only.

    The authors train with Adam (here adamw without weight decay), rate 1e-3, constant.
    """

    about: ClassVar[About] = About(
        "octo",
        "INT8",
        "INT8 with zero point; output compensated",
        "INT8, range clipped",
        "-, of biases INT8",
        "tensor",
        "nearest",
        "convolutions",
        "USENIX ATC 2021",
    )
    forward: ClassVar[bool] = True
    backward: ClassVar[bool] = True

    format: str | Format = "INT8"
    error_format: str | Format | None = None
    clip: float = 0.95
    rounding: Rounding = Rounding.NEAREST
    compensation: bool = True
    shape: Shape = Shape.CHW
    tied: bool = False
    regularization: float = 0.1
    clip_output: bool = False
    reuse_forward_codes: bool = False
    include_linear: bool = False
    arithmetic: Arithmetic = Arithmetic.EXACT

    def __post_init__(self) -> None:
        number("octo: clip", self.clip, 0, 1)
        object.__setattr__(self, "rounding", one_of("octo: rounding", Rounding, self.rounding))
        object.__setattr__(self, "arithmetic", one_of("octo: arithmetic", Arithmetic, self.arithmetic))
        if self.rounding not in (Rounding.NEAREST, Rounding.STOCHASTIC):
            raise not_allowed("octo: rounding", self.rounding.value, ("nearest", "stochastic"))
        clipped = Clipped(self.format)
        clipped.check_rounding(self.rounding)
        error = error_quantizer(self.format, self.error_format)
        if self.arithmetic is Arithmetic.DEMO and not clipped.format.name == error.format.name == "INT8":
            raise ValueError(
                f"octo: arithmetic 'octo-demo' is of INT8, not of {clipped.format.name} and {error.format.name}"
            )
        object.__setattr__(self, "shape", self._compensation.shape)

    @property
    def _compensation(self) -> Compensation:
        return Compensation(self.shape, self.tied, self.regularization, self.include_linear)

    @property
    def digest(self) -> str:
        """The formats'."""
        return digests(self.format, self.error_format)

    def start(self, setup: Setup) -> OctoRun:
        """The state for one run."""
        return OctoRun(self, setup, self._compensation.start(setup) if self.compensation else None)


def demo_forward(x: Tensor, rounding: Rounding, streams: Streams) -> Tensor:
    """The demonstration's forward tensor: step * codes in [-255, 255] around a zero point that is left out, so that
    values are shifted."""
    low, high = x.detach().amin().double(), x.detach().amax().double()
    step = ((high - low) / 510).clamp(min=SMALLEST_STEP)
    zero = (255 - high / step).clamp(-255, 255)
    mode = {} if rounding is Rounding.NEAREST else mode_arguments(rounding, streams.seed, streams.take(), None)
    integers: Any = formats.get("INT16")
    codes = integers.round(x.detach().double() / step + zero, top=14, keep_infinities=True, **mode)
    return straight_through(x, (codes * step).float().to(x.dtype))


def demo_backward(x: Tensor) -> Tensor:
    """The demonstration's backward tensor: step (max - min) / 254, no clamp, so that a one-sided tensor has codes
    beyond INT8."""
    step = ((x.detach().amax() - x.detach().amin()).double() / 254).clamp(min=SMALLEST_STEP)
    return ((x.detach().double() / step).round() * step).float().to(x.dtype)


class OctoRun(Run):
    """Octo's state in one run: that of its compensation. Ranges are those of every tensor as it comes, in evaluation
    too."""

    def __init__(self, options: Octo, setup: Setup, compensation: CompensationRun | None):
        super().__init__()
        self.options, self.compensation, self._streams = options, compensation, setup.streams
        self.layers = chosen_layers(setup, options.include_linear, False, False)
        self.quantizer = Clipped(options.format)
        self.error_quantizer = error_quantizer(options.format, options.error_format)
        self._zero_points = self.quantizer.format.family is Family.INT
        self._demo = options.arithmetic is Arithmetic.DEMO
        if compensation is not None:
            self.parameters = compensation.parameters

    def site(self, site: Site) -> Quantizers | None:
        layer = self.layers.get(site.name)
        if layer is None:
            return None
        backward = self._backward
        operands = (
            None
            if self.options.reuse_forward_codes
            else lambda x, w: (backward(x, self.quantizer), backward(w, self.quantizer))
        )

        def error(e: Tensor) -> tuple[Tensor, Tensor]:
            both = backward(e, self.error_quantizer)
            return both, both

        return Quantizers(
            input=self._input,
            weight=self._weight,
            output=lambda y: self._output(layer, y),
            operands=operands,
            error=error,
            bias_gradient=demo_backward if self._demo else lambda g: self.quantizer(g, absmax(g)),
        )

    def _backward(self, x: Tensor, quantizer: Clipped) -> Tensor:
        if self._demo:
            return demo_backward(range_clip(x, self.options.clip))
        # Rounding is monotone: what is clipped afterwards, at the ends rounded, is what is clipped before.
        least, largest = x.detach().amin(), x.detach().amax()
        ends = torch.stack([*clipped_range(least, largest, self.options.clip), least, largest]).float()
        threshold = ends[:2].abs().amax()
        low, high, lowest, highest = quantizer(ends, threshold).tolist()
        rounded = quantizer(x, threshold)
        return rounded if low <= lowest and highest <= high else rounded.clamp_(low, high)

    def _forward_rounding(self) -> Rounding:
        """Evaluation draws nothing."""
        drawn = self.options.rounding is Rounding.STOCHASTIC or self._demo
        return Rounding.STOCHASTIC if drawn and self.training else Rounding.NEAREST

    def _input(self, x: Tensor) -> Tensor:
        if self._demo or not self._zero_points:
            return self._weight(x)
        return asymmetric_range(x, self.quantizer.format.bits, self._forward_rounding(), self._streams)

    def _weight(self, w: Tensor) -> Tensor:
        rounding = self._forward_rounding()
        if self._demo:
            return demo_forward(w, rounding, self._streams)
        return straight_through(w, self.quantizer(w, absmax(w), rounding, self._streams))

    def _output(self, layer: Layer, y: Tensor) -> Tensor:
        if self.compensation is not None:
            y = self.compensation.compensated(layer, y)
        return range_clip(y, self.options.clip) if self.options.clip_output else y

    def group(self, parameter: str) -> Group:
        return Group() if self.compensation is None else self.compensation.group(parameter)

    def penalty(self) -> Tensor | None:
        return None if self.compensation is None else self.compensation.penalty()

    def exported(self) -> list[ExportedLayer]:
        """As evaluation uses them. Raises ValueError for the demonstration's arithmetic, whose codes have nine bits."""
        if self._demo:
            raise ValueError(
                "octo: codes of arithmetic 'octo-demo' lie in [-255, 255] and are no INT8; export arithmetic 'exact'"
            )
        format = self.quantizer.format
        kind = (
            {"kind": "range", "bits": format.bits} if self._zero_points else {"kind": "absmax", "format": format.name}
        )
        output = {"kind": "clip", "factor": self.options.clip} if self.options.clip_output else None
        return [
            replace(
                entry,
                output=output,
                added=None if self.compensation is None else self.compensation.added(layer).detach(),
            )
            for entry, layer in zip(
                exported_absmax(self.layers, self.quantizer, lambda _: kind), self.layers.values(), strict=True
            )
        ]
