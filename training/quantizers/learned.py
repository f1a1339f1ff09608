"""Quantization with a learned step and offset (LSQ, LSQ+), forward and backward each in one pass over memory.

Source: docs/definitions/methods.md sections 6 and 7 (LSQ, ICLR 2020; LSQ+, CVPR 2020 workshops).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from formats.kernel import threads
from formats.layout import dense_order
from training.quantizers.learned_kernel import BACKWARD, FORWARD, backward_task, forward_task


def _flat(x: Tensor, order: list[int]) -> NDArray[Any]:
    """The elements in the memory order of `order`, without a copy where they lie so."""
    return x.detach().permute(order).contiguous().reshape(-1).numpy()


class _Fused(torch.autograd.Function):
    """One step for all of a float32 tensor on the CPU; the same bits as `_General` going forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, offset: Tensor | None, low: int, high: int, factor: float) -> Tensor:
        order = dense_order(x.detach().numpy())
        x = x if order is not None else x.contiguous()
        ctx.order = order or list(range(x.ndim))
        ctx.numbers = np.array([step.item(), 0.0 if offset is None else offset.item(), low, high], np.float32)
        ctx.factor, ctx.step_shape = factor, step.shape
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        flat = _flat(x, ctx.order)
        made = out.permute(ctx.order).reshape(-1).numpy()
        words = FORWARD.pack(elements=flat.size, x=flat, out=made, numbers=ctx.numbers)
        threads.run(forward_task, words, flat.size)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        flat, given, made = _flat(x, ctx.order), _flat(gradient, ctx.order), out.permute(ctx.order).reshape(-1).numpy()
        count = threads.threads_for(flat.size)
        sums = np.zeros((count, 2))
        words = BACKWARD.pack(elements=flat.size, x=flat, out=made, numbers=ctx.numbers, gradient=given, sums=sums)
        threads.run_on(backward_task, words, count)
        for_step, for_offset = torch.from_numpy((ctx.factor * sums.sum(0)).astype(np.float32))
        return out, for_step.reshape(ctx.step_shape), for_offset if ctx.needs_input_grad[2] else None, None, None, None


class _General(torch.autograd.Function):
    """Steps of any shape, any device."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, offset: Tensor | None, low: int, high: int, factor: float) -> Tensor:
        scaled = (x if offset is None else x - offset) / step
        whole = scaled.round().clamp(low, high)
        ctx.save_for_backward(scaled, step)
        ctx.limits, ctx.factor = (low, high), factor
        value = whole * step
        return value if offset is None else value + offset

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        scaled, step = ctx.saved_tensors
        low, high = ctx.limits
        residual = torch.where(scaled <= low, low, torch.where(scaled >= high, high, scaled.round() - scaled))
        inside = (scaled >= low) & (scaled <= high)
        for_step = ctx.factor * (gradient * residual).sum_to_size(step.shape)
        for_offset = ctx.factor * torch.where(inside, 0, gradient).sum() if ctx.needs_input_grad[2] else None
        return torch.where(inside, gradient, 0), for_step, for_offset, None, None, None


def quantize_by_step(
    x: Tensor, step: Tensor, low: int, high: int, factor: float, offset: Tensor | None = None
) -> Tensor:
    """step * clamp(round((x - offset) / step), low, high) + offset, with gradients for x, step and offset.

    Inside the grid the gradient of x is 1 and that of the step the rounding residual; beyond it 0 and the integer of
    the end, and that of the offset 1. Exactly on an end the gradient of x is 1.

    Args:
        x: Any shape, a floating-point dtype.
        step: A positive scalar, or of a shape that broadcasts.
        low: The least integer.
        high: The largest integer.
        factor: What the gradients of step and offset are multiplied by.
        offset: A scalar; None for none.

    Source:
        docs/definitions/methods.md sections 6 and 7 (LSQ, ICLR 2020; LSQ+, CVPR 2020 workshop).
    """
    fused = x.device.type == "cpu" and x.dtype == torch.float32 and step.numel() == 1 and x.numel() > 0
    result: Tensor = (_Fused if fused else _General).apply(x, step, offset, low, high, factor)
    return result
