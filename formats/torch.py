"""Formats in torch: rounding inside autograd and outside, on any device, and as a module."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from formats.layout import is_tensor, to_float
from formats.names import get
from formats.rounding import NEAREST, ModeChoice
from numeric_formats.checks import one_of

if TYPE_CHECKING:
    from formats.number_format import Emulated, Format


class Gradient(StrEnum):
    """What a rounding passes back: all of the gradient, or none where the input lay beyond the largest value."""

    STRAIGHT_THROUGH = "straight-through"
    CLIPPED = "clipped"


def round_tensor(
    format: Emulated,
    x: Tensor,
    *,
    top: Any,
    mode: ModeChoice = NEAREST,
    out: Any = None,
    keep_infinities: bool = False,
    gradient: Gradient | str = Gradient.STRAIGHT_THROUGH,
) -> Tensor:
    """`Format.round` of a tensor; where autograd records, with the gradient asked for and in the dtype of x."""
    if torch.is_grad_enabled() and x.requires_grad:
        if out is not None:
            raise ValueError("out cannot be given for a tensor that requires a gradient")
        return _Round.apply(x, format, top, mode, keep_infinities, Gradient(gradient))
    if out is not None and not is_tensor(out):
        raise ValueError(f"out is {type(out)!r}; a tensor is needed for a tensor")
    if out is not None and out.requires_grad:
        raise ValueError("out requires a gradient; a tensor that needs none is needed")
    if x.device.type != "cpu":
        rounded = _elsewhere(format, x, top, mode, keep_infinities)
        return rounded if out is None else out.copy_(rounded)
    given = None if out is None else out.detach().numpy()
    array = format.round_array(to_float(x), top=_top(top), mode=mode, out=given, keep_infinities=keep_infinities)
    if out is None:
        return torch.from_numpy(array)
    # Written behind autograd's back: a graph that has saved it must not use it as it was.
    torch.autograd.graph.increment_version(out)
    return out


def _elsewhere(format: Emulated, x: Tensor, top: Any, mode: ModeChoice, keep_infinities: bool) -> Tensor:
    """Rounding on another device: there where it can be, else of a copy on the CPU."""
    from formats.device import round_anywhere
    from formats.kinds.profile_format import ProfileFormat
    from formats.scale import Granularity

    if mode is not NEAREST and mode.rounding.value != "nearest":
        raise ValueError(
            f"{format.name}, rounding {mode.rounding.value}: tensors on {x.device} can only be rounded to nearest"
        )
    x = x.detach()
    if isinstance(format, ProfileFormat) and format.granularity is Granularity.TENSOR:
        return round_anywhere(format, x, top, keep_infinities)
    array = format.round_array(to_float(x.cpu()), top=_top(top), mode=mode, keep_infinities=keep_infinities)
    return torch.from_numpy(array).to(x.device)


def _top(top: Any) -> Any:
    return top.cpu().numpy() if is_tensor(top) else top


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, format: Any, top: Any, mode: ModeChoice, keep_infinities: bool, gradient: Gradient
    ) -> Tensor:
        if gradient is Gradient.CLIPPED:
            if top is None:
                top = format.find_top(x.detach())
            largest = format.round(torch.full_like(x, float("inf"), requires_grad=False), top=top)
            ctx.save_for_backward(x.abs() <= largest)
        rounded = round_tensor(format, x.detach(), top=top, mode=mode, keep_infinities=keep_infinities)
        return rounded.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        for inside in ctx.saved_tensors:
            gradient = torch.where(inside, gradient, 0)
        return gradient, None, None, None, None, None


class _RoundGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, format: Any) -> Tensor:
        ctx.format = format
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return ctx.format.round(gradient).to(gradient.dtype), None


class Quantize(nn.Module):
    """Rounds what passes through it: activations forward in one format, errors backward in another.

    format: of activations, or its name; None leaves them. error: of errors; None leaves them. gradient:
    straight-through or clipped. Any floating dtype, shape and stride; the result has the dtype and shape of the input.

    >>> import torch
    >>> from formats.torch import Quantize
    >>> import formats
    >>> Quantize(formats.get("FP134"))(torch.tensor([1.03, -2.7]))
    tensor([ 1.0000, -2.7500])
    """

    def __init__(
        self,
        format: Format | str | None,
        error: Format | str | None = None,
        gradient: Gradient | str = Gradient.STRAIGHT_THROUGH,
    ) -> None:
        super().__init__()
        self.gradient = one_of("gradient", Gradient, gradient)
        self.format, self.error = (None if given is None else get(given) for given in (format, error))

    def forward(self, x: Tensor) -> Tensor:
        if self.error is not None:
            x = _RoundGradient.apply(x, self.error)
        if self.format is None:
            return x
        if self.gradient is Gradient.CLIPPED:
            return round_tensor(self.format, x, top=None, gradient=self.gradient).to(x.dtype)  # type: ignore[arg-type]
        rounded: Tensor = self.format.round(x)
        return rounded.to(x.dtype)

    def extra_repr(self) -> str:
        """The names of the formats."""
        names = [getattr(entry, "name", "none") for entry in (self.format, self.error)]
        return f"format={names[0]}, error={names[1]}, gradient={self.gradient}"
