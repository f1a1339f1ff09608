"""The grids of calibration: any format at one scale, integers with a zero point, and formats that find scales of
channels or blocks themselves.

Source: docs/definitions/calibration.md section 2 (M. Nagel et al., "A White Paper on Neural Network Quantization",
2021, sections 2.2 and 5.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import formats
from formats import Format, ProfileFormat, Rounding
from formats.lookup import format_or_none
from formats.scale import Granularity
from training.quantizers.clipped import Clipped
from training.quantizers.description import AtThreshold, Description, FixedRange
from training.quantizers.estimator import straight_through
from training.quantizers.integers import asymmetric, zero_point

MOST_BITS = 15
"""Of integers with a zero point; wider ones are taken as symmetric."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Where a weight may go. Beyond the format's largest value, and on its values, low and high are one.

    Attributes:
        low: A value of the format in units of the step, float64.
        high: The next one.
        step: float32, broadcastable.
        fraction: Where the weight lies between them, float64, from 0 to 1.
    """

    low: Tensor
    high: Tensor
    step: Tensor
    fraction: Tensor

    def at(self, h: Tensor) -> Tensor:
        """The weight between them, float32; h: 0 for low, 1 for high."""
        return ((self.low + h * (self.high - self.low)) * self.step.double()).float()


def _between(low: Tensor, scaled: Tensor, high: Tensor, step: Tensor) -> Neighbours:
    gap = high - low
    fraction = torch.where(gap > 0, (scaled - low) / torch.where(gap > 0, gap, 1.0), 0.0).clamp(0, 1)
    return Neighbours(low, high, step, fraction)


@dataclass(frozen=True)
class Symmetric:
    """A format scaled so that its largest value lies at the larger end of a range."""

    clipped: Clipped

    @property
    def name(self) -> str:
        """The format's."""
        return str(self.clipped.format.name)

    def weight(self, weight: Tensor, threshold: Tensor) -> Tensor:
        """A weight to nearest at a clipping threshold (scalar or broadcastable)."""
        return self.clipped(weight, threshold)

    def neighbours(self, weight: Tensor, threshold: Tensor) -> Neighbours:
        """The two values around each weight."""
        step, limit = self.clipped.step(threshold), self.clipped.largest
        scaled = weight.detach().double() / step.double()
        low, high = (self.clipped.directed(scaled.clamp(-limit, limit), mode) for mode in (Rounding.DOWN, Rounding.UP))
        return _between(low, scaled, high, step)

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """x rounded, in its own dtype; low, high: float32 scalars, or of a shape that broadcasts."""
        return self.clipped(x, torch.maximum(-low, high))

    def described(self, low: Tensor, high: Tensor) -> AtThreshold:
        """As an export holds it."""
        return AtThreshold(self.name, max(-low.item(), high.item()))


@dataclass(frozen=True)
class Affine:
    """Integers 0 .. 2^bits - 1 with a step and a zero point, over a range that is widened to hold 0, which is then
    exact."""

    bits: int

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """x rounded, in its own dtype; low, high: float32 scalars."""
        return asymmetric(x, low, high, self.bits)

    def described(self, low: Tensor, high: Tensor) -> FixedRange:
        """As an export holds it."""
        return FixedRange(self.bits, min(low.item(), 0.0), max(high.item(), 0.0))


@dataclass(frozen=True)
class OwnScales:
    """A format that finds the scale of each block or channel from the tensor, so that there is no range to set.

    Runs of a block lie along what a product sums over: a weight is a matrix of a row for each filter, its taps in turn
    and the channels of each together; of activations, they lie along channels. Tiles of two dimensions are the format's
    own (docs/definitions/formats.md section 3).
    """

    format: ProfileFormat

    @property
    def name(self) -> str:
        """The format's."""
        return self.format.name

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Activations to nearest; low, high: not used."""
        tiles = isinstance(self.format.scale.block, tuple) or x.ndim < 3
        rounded = self.format.round(x if tiles else x.movedim(1, -1).contiguous())
        return straight_through(x, rounded if tiles else rounded.movedim(-1, 1))

    def described(self, low: Tensor, high: Tensor) -> Description:
        """Raises ValueError: exported files hold one scale a tensor or channel."""
        raise ValueError(f"{self.name} has scales of blocks, which exported files do not hold")

    @staticmethod
    def _rows(weight: Tensor) -> Tensor:
        return weight.detach().movedim(1, -1).reshape(len(weight), -1)

    @staticmethod
    def _of_rows(rows: Tensor, weight: Tensor) -> Tensor:
        return rows.reshape(weight.movedim(1, -1).shape).movedim(-1, 1)

    def weight(self, weight: Tensor, threshold: Tensor) -> Tensor:
        """A weight (outputs, inputs, ...) to nearest; threshold: not used."""
        return self._of_rows(self.format.round(self._rows(weight).contiguous()), weight)

    def neighbours(self, weight: Tensor, threshold: Tensor) -> Neighbours:
        """The two values around each weight, at the scales that rounding to nearest takes."""
        rows = self._rows(weight).contiguous()
        top = self.format.find_top(rows)
        low, high = (self.format.round(rows.double(), top=top, rounding=mode) for mode in (Rounding.DOWN, Rounding.UP))
        low, scaled, high = (self._of_rows(each, weight) for each in (low, rows.double(), high))
        return _between(low, scaled, high, torch.ones(()))


WeightGrid = Symmetric | OwnScales
Grid = Symmetric | Affine | OwnScales


def _with_own_scales(given: str | Format) -> OwnScales | None:
    format = formats.get(given)
    return OwnScales(format) if isinstance(format, ProfileFormat) and format.granularity is Granularity.BLOCK else None


def weight_grid(given: str | Format) -> WeightGrid | None:
    """The grid of weights in a format; None for "float32". Raises ValueError for formats that have neither one scale a
    tensor nor blocks."""
    return None if format_or_none(given) is None else _with_own_scales(given) or Symmetric(Clipped(given))


def activation_grid(given: str | Format) -> Grid | None:
    """The grid of activations: integers get a zero point, other formats are symmetric; None for "float32". Raises
    ValueError as `weight_grid` does."""
    if format_or_none(given) is None:
        return None
    own = _with_own_scales(given)
    if own is not None:
        return own
    format = formats.get(given)
    if isinstance(format, ProfileFormat) and format.two_complement and format.bits <= MOST_BITS:
        Clipped(format)  # refuses those with scales of channels or blocks
        return Affine(format.bits)
    return Symmetric(Clipped(format))


def effective_range(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The ends of the grid that `Affine` makes of a range: -s z and s (2^bits - 1 - z), float32."""
    step, zero = zero_point(low, high, bits)
    return (-zero * step.double()).float(), ((2**bits - 1 - zero) * step.double()).float()


class _Trained(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x, step, zero)
        ctx.ends = low, high
        return step * (((x / step).round() + zero).clamp(low, high) - zero)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, step, zero = ctx.saved_tensors
        low, high = ctx.ends
        quotient = x / step
        code = quotient.round() + zero
        inside = (code >= low) & (code <= high)
        end = code.clamp(low, high) - zero
        for_step = gradient * torch.where(inside, quotient.round() - quotient, end)
        for_zero = gradient * torch.where(inside, 0.0, -step)
        return (
            torch.where(inside, gradient, 0.0),
            for_step.sum_to_size(step.shape),
            for_zero.sum_to_size(zero.shape),
            None,
            None,
        )


def affine(x: Tensor, step: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """s (clamp(rn(x / s) + z; low, high) - z) with straight-through gradients for x, step and zero point, as
    fine-tuning after calibration needs them.

    Args:
        x: A floating-point tensor.
        step: A scalar, or of a shape that broadcasts with x.
        zero: The same; a whole number of x's dtype.
        low: The least code.
        high: The largest code.

    Returns:
        A tensor of x's shape and dtype.

    Source:
        Section 5.1 of the paper named at the top of this file.
    """
    result: Tensor = _Trained.apply(x, step, zero, low, high)
    return result
