"""The straight-through estimator: a quantized tensor whose gradient goes on to what it was quantized from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, quantized: Tensor, inside: Tensor | None) -> Tensor:
        ctx.inside = inside
        return quantized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient if ctx.inside is None else torch.where(ctx.inside, gradient, 0), None, None


def straight_through(x: Tensor, quantized: Tensor, inside: Tensor | None = None) -> Tensor:
    """`quantized`, with the gradient handed on to x: all of it, or that of the elements in `inside` (bool)."""
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = _StraightThrough.apply(x, quantized, inside)
        return result
    return quantized
