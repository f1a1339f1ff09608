"""Octo: INT8 in both passes, with a learned compensation of the forward error and clipped ranges in the backward pass.

Source: Q. Zhou et al., "Octo: INT8 Training with Loss-aware Compensation and Backward Quantization for Tiny On-device
Learning", USENIX ATC 2021, and the authors' demonstration; docs/definitions/methods.md section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

import formats
from formats import Format, Rounding
from formats.spelling import Family
from numeric_formats.checks import number, one_of
from predictor.flow.sites import Quantizers, Site
from training.export.layer import ExportedLayer
from training.methods.compensation import Compensation, CompensationShape, CompensationState
from training.methods.errors import digests, error_quantizer, exported_absmax, nearest_or_stochastic
from training.methods.layers import MethodLayer, chosen
from training.methods.method import About, MethodSetup, MethodState
from training.quantizers.clipped import SMALLEST_STEP, Clipped, absmax, clipped_range, range_clip
from training.quantizers.description import AtAbsmax, Description, OwnRange, PartOfRange
from training.quantizers.estimator import straight_through
from training.quantizers.integers import asymmetric_range
from training.weights import Group, Streams


class OctoArithmetic(StrEnum):
    """How Octo computes: eight bits with exact zero points, or as the authors' demonstration does."""

    EXACT = "exact"
    DEMO = "octo-demo"


@dataclass(frozen=True)
class Octo:
    """Options of Octo.

    Args:
        format: Weights and everything in the backward pass; activations are asymmetric integers of as many bits where
            it is INTn, else of this format too.
        error_format: Errors; None for `format`.
        clip: What ranges are multiplied by in the backward pass.
        rounding: `nearest` or `stochastic`, of the forward pass.
        compensation: Whether outputs are compensated, as `Compensation` does.
        shape: Of the compensation.
        tied: Of the compensation.
        regularization: Of the compensation.
        clip_output: Clip compensated outputs to the same part of their range.
        reuse_forward_codes: The backward products take what the forward pass computed with, instead of clipping and
            rounding anew.
        include_linear: Linear layers too.
        arithmetic: `exact`, or `octo-demo` for the published demonstration's: 511 levels drawn by stochastic rounding
            and zero points left out in the forward pass, half ranges and no clamp in the backward pass; INT8 only.

    The authors train with Adam (here adamw without weight decay), rate 1e-3, constant.
    """

    about: ClassVar[About] = About(
        name="octo",
        weight="INT8",
        activation="INT8 with zero point; output compensated",
        error="INT8, range clipped",
        gradient="-, of biases INT8",
        granularity="tensor",
        rounding="nearest",
        layers="convolutions",
        source="USENIX ATC 2021",
    )
    forward: ClassVar[bool] = True
    backward: ClassVar[bool] = True

    format: str | Format = "INT8"
    error_format: str | Format | None = None
    clip: float = 0.95
    rounding: Rounding = Rounding.NEAREST
    compensation: bool = True
    shape: CompensationShape = CompensationShape.CHW
    tied: bool = False
    regularization: float = 0.1
    clip_output: bool = False
    reuse_forward_codes: bool = False
    include_linear: bool = False
    arithmetic: OctoArithmetic = OctoArithmetic.EXACT

    def __post_init__(self) -> None:
        number("octo: clip", self.clip, 0, 1)
        object.__setattr__(self, "rounding", nearest_or_stochastic("octo: rounding", self.rounding))
        object.__setattr__(self, "arithmetic", one_of("octo: arithmetic", OctoArithmetic, self.arithmetic))
        clipped = Clipped(self.format)
        clipped.check_rounding(self.rounding)
        error = error_quantizer(self.format, self.error_format)
        if self.arithmetic is OctoArithmetic.DEMO and not clipped.format.name == error.format.name == "INT8":
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

    def start(self, setup: MethodSetup) -> OctoState:
        """The state for one run."""
        return OctoState(self, setup, self._compensation.start(setup) if self.compensation else None)


def demo_forward(x: Tensor, rounding: Rounding, streams: Streams) -> Tensor:
    """The demonstration's forward tensor: step * codes in [-255, 255] around a zero point that is left out, so that
    values are shifted."""
    low, high = x.detach().amin().double(), x.detach().amax().double()
    step = ((high - low) / 510).clamp(min=SMALLEST_STEP)
    zero = (255 - high / step).clamp(-255, 255)
    integers: Any = formats.get("INT16")
    scaled = x.detach().double() / step + zero
    codes = integers.round(scaled, top=14, keep_infinities=True, **streams.arguments(rounding))
    return straight_through(x, (codes * step).float().to(x.dtype))


def demo_backward(x: Tensor) -> Tensor:
    """The demonstration's backward tensor: step (max - min) / 254, no clamp, so that a one-sided tensor has codes
    beyond INT8."""
    step = ((x.detach().amax() - x.detach().amin()).double() / 254).clamp(min=SMALLEST_STEP)
    return ((x.detach().double() / step).round() * step).float().to(x.dtype)


class OctoState(MethodState):
    """Octo's state in one run: that of its compensation. Ranges are those of every tensor as it comes, in evaluation
    too."""

    def __init__(self, options: Octo, setup: MethodSetup, compensation: CompensationState | None):
        super().__init__(setup)
        self.options, self.compensation, self._streams = options, compensation, setup.streams
        self.quantizer = Clipped(options.format)
        self.error_quantizer = error_quantizer(options.format, options.error_format)
        self._zero_points = self.quantizer.format.family is Family.INT
        self._demo = options.arithmetic is OctoArithmetic.DEMO
        if compensation is not None:
            self.parameters = compensation.parameters
        self.meet()

    def takes(self, layer: MethodLayer) -> bool:
        return chosen(layer, self.options.include_linear)

    def remake(self, late: Sequence[Site], parameters: dict[str, Tensor]) -> None:
        super().remake(late, parameters)
        if self.compensation is not None:
            self.compensation.remake(late, parameters)

    def site(self, site: Site) -> Quantizers | None:
        layer = self.layer_of(site)
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
            input=lambda x: self._input(x, site),
            weight=lambda w: self._weight(w, ("weight", site.name, site.time)),
            output=lambda y: self._output(site, y),
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

    def _forward(self, key: tuple[Any, ...]) -> tuple[Rounding, Streams]:
        """How the forward pass rounds, with a stream for each tensor; evaluation draws nothing."""
        drawn = self.options.rounding is Rounding.STOCHASTIC or self._demo
        if not drawn or not self.training:
            return Rounding.NEAREST, self._streams
        own = Streams(self._streams.seed)
        own.next = self.once(key, self._streams.take)
        return Rounding.STOCHASTIC, own

    def _input(self, x: Tensor, site: Site) -> Tensor:
        key = "input", site.name, site.time
        if self._demo or not self._zero_points:
            return self._weight(x, key)
        return asymmetric_range(x, self.quantizer.format.bits, *self._forward(key))

    def _weight(self, w: Tensor, key: tuple[Any, ...]) -> Tensor:
        rounding, streams = self._forward(key)
        if self._demo:
            return demo_forward(w, rounding, streams)
        return straight_through(w, self.quantizer(w, absmax(w), rounding, streams))

    def _output(self, site: Site, y: Tensor) -> Tensor:
        if self.compensation is not None:
            y = self.compensation.at(site, y)
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
        input: Description = OwnRange(format.bits) if self._zero_points else AtAbsmax(format.name)
        output = PartOfRange(self.options.clip) if self.options.clip_output else None
        entries = exported_absmax(self.layers, self.quantizer, lambda _: input)
        return [
            replace(
                entry,
                output=output,
                added=None if self.compensation is None else self.compensation.added(layer).detach(),
            )
            for entry, layer in zip(entries, self.layers.values(), strict=True)
        ]
