"""The grids that calibration sets ranges for: any format at one scale, and integers with a zero point.

Source: docs/methods.md section 5.1 (M. Nagel et al., "A White Paper on Neural Network Quantization", 2021, sections 2.2 and 5.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import formats
from formats import Format, ProfileFormat
from training.methods.quantizers import Clipped, asymmetric, zero_point
from training.scheme import training_format

MOST_BITS = 15
"""Of integers with a zero point; wider ones are taken as symmetric."""


@dataclass(frozen=True)
class Symmetric:
    """A format scaled so that its largest value lies at the larger end of a range."""

    clipped: Clipped

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """x rounded, in its own dtype; low, high: float32 scalars, or of a shape that broadcasts."""
        return self.clipped(x, torch.maximum(-low, high))

    def described(self, low: Tensor, high: Tensor) -> dict[str, Any]:
        """For `training.methods.quantizers.from_description`."""
        return {"kind": "threshold", "format": self.clipped.format.name, "threshold": max(-low.item(), high.item())}


@dataclass(frozen=True)
class Affine:
    """Integers 0 .. 2^bits - 1 with a step and a zero point, over a range that is widened to hold 0, which is then exact."""

    bits: int

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """x rounded, in its own dtype; low, high: float32 scalars."""
        return asymmetric(x, low, high, self.bits)

    def described(self, low: Tensor, high: Tensor) -> dict[str, Any]:
        """For `training.methods.quantizers.from_description`."""
        return {"kind": "fixed-range", "bits": self.bits, "low": min(low.item(), 0.0), "high": max(high.item(), 0.0)}


Grid = Symmetric | Affine


def weight_grid(given: str | Format) -> Symmetric | None:
    """The grid of weights in a format; None for "float32". Raises ValueError for formats without a single scale to set."""
    return None if training_format(given) is None else Symmetric(Clipped(given))


def activation_grid(given: str | Format) -> Grid | None:
    """The grid of activations: integers get a zero point, other formats are symmetric; None for "float32". Raises ValueError as `weight_grid` does."""
    if training_format(given) is None:
        return None
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
        return torch.where(inside, gradient, 0.0), for_step.sum_to_size(step.shape), for_zero.sum_to_size(zero.shape), None, None


def affine(x: Tensor, step: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """s (clamp(rn(x / s) + z; low, high) - z) with straight-through gradients for x, step and zero point, as fine-tuning after calibration needs them.

    step, zero: scalars, or of a shape that broadcasts with x; zero a whole number of x's dtype. Returns x's dtype.
    Source: docs/methods.md section 5.1, the table of gradients.
    """
    result: Tensor = _Trained.apply(x, step, zero, low, high)
    return result
