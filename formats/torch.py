"""Rounding torch tensors, inside autograd and outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from formats.arrays import is_tensor, to_float
from formats.mode import ModeChoice

if TYPE_CHECKING:
    from formats.format import ProfileFormat


def round_tensor(format: ProfileFormat, x: torch.Tensor, *, top: Any, mode: ModeChoice, out: Any, keep_infinities: bool) -> torch.Tensor:
    """`Format.round` of a CPU tensor; straight-through where autograd records."""
    if torch.is_grad_enabled() and x.requires_grad:
        if out is not None:
            raise ValueError("out cannot be given for a tensor that requires a gradient")
        return _StraightThrough.apply(x, format, top, mode, keep_infinities)
    if out is not None and not is_tensor(out):
        raise ValueError(f"out is {type(out)!r}; a tensor is needed for a tensor")
    given = None if out is None else out.detach().numpy()
    rounded = format.round_array(to_float(x), top=_top(top), mode=mode, out=given, keep_infinities=keep_infinities)
    return out if out is not None else torch.from_numpy(rounded)


def _top(top: Any) -> Any:
    return top.cpu().numpy() if is_tensor(top) else top


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, format: ProfileFormat, top: Any, mode: ModeChoice, keep_infinities: bool) -> torch.Tensor:
        rounded = format.round_array(to_float(x), top=_top(top), mode=mode, keep_infinities=keep_infinities)
        return torch.from_numpy(rounded).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return gradient, None, None, None, None
