"""Clipping: a format scaled so that its largest value lies at a threshold, and tensors clipped to part of their range.

Source: docs/definitions/methods.md section 1. Symmetric INT8: M. Nagel et al., "A White Paper on Neural Network
Quantization", 2021, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import formats
from formats import CodebookFormat, Format, ProfileFormat, Rounding, StandardFormat
from formats.checks import mode_arguments
from formats.kinds.integer_real import IntegerFormat
from formats.scale import Granularity
from training.quantizers.estimator import straight_through
from training.weights import Streams

SMALLEST_STEP = float(np.finfo(np.float32).tiny) * 2**10
"""A step is at least this, so that nothing is divided by the zero range of a tensor of zeros; gradients may be as small
as 1e-30."""

SMALLEST_LEARNED_STEP = 1e-8


def absmax(x: Tensor) -> Tensor:
    """The largest magnitude: float32 scalar, 0 for an empty tensor. NaN where x holds NaN."""
    x = x.detach()
    return torch.maximum(-x.amin(), x.amax()).float() if x.numel() else torch.zeros(())


@dataclass(frozen=True)
class Clipped:
    """A format scaled so that its largest value lies at a clipping threshold: SQ(x; c) = step * round(x / step), step =
    c / largest.

    For INTn this is the symmetric quantizer rn(clamp(x, -c, c) * L / c) * c / L with L = 2^(n-1) - 1. The step is
    rounded to float32 and that is the definition: an element becomes the value of the format nearest to the exact
    quotient (a tie as the format has it), and the result is that value times the step, rounded to float32 once.
    Magnitudes above c become c; NaN and infinities stay.

    Args:
        given: The name of a format, or the format.

    Raises:
        ValueError: For a format without a largest value to put at the threshold: those with scales for channels or
            blocks of their own, and a user's own objects.
    """

    given: str | Format
    format: Any = field(init=False, repr=False, compare=False)
    _top: dict[str, Any] = field(init=False, repr=False, compare=False)
    largest: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        format: Any = formats.get(self.given)
        kinds = ProfileFormat | StandardFormat | CodebookFormat | IntegerFormat
        if not isinstance(format, kinds) or format.granularity is not Granularity.TENSOR:
            raise ValueError(
                f"format {format.name} has no single scale for a clipping threshold to set; "
                "allowed are formats with one a tensor"
            )
        top: dict[str, Any] = {}
        if isinstance(format, ProfileFormat):
            # INTn is then the whole numbers.
            top = {"top": format.profile[0] - 1}
        elif isinstance(format, CodebookFormat):
            top = {"top": 0}
        elif isinstance(format, IntegerFormat):
            top = {"top": 1.0}
        object.__setattr__(self, "format", format)
        object.__setattr__(self, "_top", top)
        object.__setattr__(self, "largest", format.max(**top))

    def step(self, threshold: Tensor) -> Tensor:
        """c / largest, float32, of a threshold or many."""
        return (threshold.double() / self.largest).float().clamp(min=SMALLEST_STEP)

    def check_rounding(self, rounding: Rounding) -> None:
        """ValueError where the format cannot round in a mode."""
        self.format.round(torch.ones(1), **self._top, **mode_arguments(rounding, 0, 0, None))

    def nearest(self, scaled: Tensor) -> Tensor:
        """The nearest values of the format in units of the step; what lies beyond the largest becomes that. float64 in
        and out."""
        values: Tensor = self.format.round(scaled, keep_infinities=True, **self._top)
        return values

    def directed(self, scaled: Tensor, rounding: Rounding) -> Tensor:
        """Values of the format in units of the step, rounded up or down. float64 in and out."""
        values: Tensor = self.format.round(scaled, rounding=rounding, **self._top)
        return values

    def __call__(
        self, x: Tensor, threshold: Tensor, rounding: Rounding = Rounding.NEAREST, streams: Streams | None = None
    ) -> Tensor:
        """x rounded, in its own dtype.

        Args:
            x: Any shape, a floating-point dtype.
            threshold: A scalar, or of a shape that broadcasts.
            rounding: Nearest or stochastic, which takes a stream.
            streams: Of stochastic rounding.
        """
        step = self.step(threshold)
        mode = {} if streams is None else streams.arguments(rounding)
        along = [d for d, size in enumerate(step.shape) if size > 1]
        simple = not along or (len(along) == 1 and step.ndim == x.ndim)
        if simple and isinstance(self.format, ProfileFormat) and x.device.type == "cpu" and step.isfinite().all():
            axis, steps = (along[0], step.flatten()) if along else (None, step.reshape(()))
            rounded = self.format.round_scaled(x.detach().float(), steps, axis=axis, **mode)
            return torch.from_numpy(rounded).to(x.dtype)
        wide = step.double()
        values = self.format.round(x.detach().double() / wide, keep_infinities=True, **self._top, **mode)
        return (values * wide).float().to(x.dtype)

    def at_absmax(self, x: Tensor) -> Tensor:
        """x rounded with the largest magnitude as the threshold; all of the gradient goes through, since nothing is
        clipped."""
        return straight_through(x, self(x, absmax(x)))

    def encode(self, x: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """The format's codes of x, and the step: `decode` gives what a call gives. Raises ValueError for NaN."""
        step = self.step(threshold)
        codes = self.format.encode((x.detach().double() / step.double()).numpy(), **self._top).codes
        return torch.from_numpy(codes), step

    def decode(self, codes: Tensor, step: Tensor) -> Tensor:
        """The float32 values of codes."""
        values = torch.from_numpy(np.asarray(self.format.decode(codes.numpy(), *self._top.values())))
        return (values.double() * step.double()).float()


def clipped_range(least: Tensor, largest: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """[factor * least, factor * largest], where an end that lies beyond zero, as seen from its own side, stays."""
    return torch.where(least < 0, factor * least, least), torch.where(largest > 0, factor * largest, largest)


def range_clip(x: Tensor, factor: float) -> Tensor:
    """x clipped to `clipped_range` of its own least and largest."""
    low, high = clipped_range(x.detach().amin(), x.detach().amax(), factor)
    return x.clamp(low.item(), high.item())  # with tensors as bounds it takes ten times as long
