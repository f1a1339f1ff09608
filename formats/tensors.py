"""Rounding of torch tensors: inside autograd and outside, and on devices other than the CPU.

On another device rounding is made of torch operations alone, bit for bit what the kernel gives (the rule is that of
`formats.rounding`, to nearest). The step is taken in float64 for float32 input: adding and subtracting 2^52 times the
local step rounds a magnitude to a multiple of it, to nearest with ties to even, and in float64 every number involved is
a normal one at every scale. The functions have no branches on data, so torch.compile fuses them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from formats.layout import is_tensor, to_float
from formats.profile import Profile
from formats.rounding import NEAREST, ModeChoice, Rounding
from formats.scale import Granularity, TopRule


class Gradient(StrEnum):
    """What a rounding passes back: all of the gradient, or none where the input lay beyond the largest value."""

    STRAIGHT_THROUGH = "straight-through"
    CLIPPED = "clipped"


class RoundsArrays(Protocol):
    """What tensors ask of a format of this package (`formats.number_format.NumberFormat`)."""

    @property
    def name(self) -> str: ...

    @property
    def on_every_device(self) -> bool: ...

    def find_top(self, x: Any) -> Any: ...

    def round(self, x: Any, /, *, top: Any = None) -> Any: ...

    def round_array(
        self,
        x: NDArray[Any],
        *,
        top: Any = None,
        mode: ModeChoice = NEAREST,
        out: NDArray[Any] | None = None,
        keep_infinities: bool = False,
    ) -> NDArray[Any]: ...


class HasProfile(RoundsArrays, Protocol):
    """What rounding on every device asks (`formats.ProfileFormat`)."""

    @property
    def profile(self) -> Profile: ...

    @property
    def granularity(self) -> Granularity: ...

    @property
    def top_range(self) -> tuple[int, int]: ...

    @property
    def top_rule(self) -> TopRule: ...

    def max(self, top: int = 0) -> float: ...


def round_tensor(
    format: RoundsArrays,
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
        rounded = round_elsewhere(format, x, top, mode, keep_infinities)
        return rounded if out is None else out.copy_(rounded)
    given = None if out is None else out.detach().numpy()
    array = format.round_array(to_float(x), top=_on_cpu(top), mode=mode, out=given, keep_infinities=keep_infinities)
    if out is None:
        return torch.from_numpy(array)
    # Written behind autograd's back: a graph that has saved it must not use it as it was.
    torch.autograd.graph.increment_version(out)
    return out


def _on_cpu(top: Any) -> Any:
    return top.cpu().numpy() if is_tensor(top) else top


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, format: RoundsArrays, top: Any, mode: ModeChoice, keep_infinities: bool, gradient: Gradient
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


class RoundGradient(torch.autograd.Function):
    """Passes a tensor on as it is, and rounds the gradient that comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, format: Any) -> Tensor:
        ctx.format = format
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return ctx.format.round(gradient).to(gradient.dtype), None


# On other devices.


def round_elsewhere(
    format: RoundsArrays, x: Tensor, top: Any, mode: ModeChoice = NEAREST, keep_infinities: bool = False
) -> Tensor:
    """Rounding on another device: there where it can be, else of a copy on the CPU."""
    if mode.rounding is not Rounding.NEAREST:
        raise ValueError(
            f"{format.name}, rounding {mode.rounding.value}: tensors on {x.device} can only be rounded to nearest"
        )
    x = x.detach()
    if format.on_every_device:
        return round_anywhere(format, x, top, keep_infinities)  # type: ignore[arg-type]  # those have profiles
    array = format.round_array(to_float(x.cpu()), top=_on_cpu(top), mode=mode, keep_infinities=keep_infinities)
    return torch.from_numpy(array).to(x.device)


def find_top(format: HasProfile, x: Tensor) -> Tensor:
    """The top exponent that the scale rule picks for a whole tensor: int64, no dimensions, on its device."""
    finite = torch.where(x.isfinite(), x.abs(), 0).double()
    largest = finite.amax() if x.numel() else finite.sum()
    above, headroom, low, high = format.top_rule
    fraction, exponent = torch.frexp(largest)
    more = torch.ldexp(fraction, torch.tensor(53)) - (1 << 52) > above
    return torch.where(largest > 0, exponent.long() - 1 + more + headroom, 0).clamp(low, high)


def round_anywhere(
    format: HasProfile, x: Tensor, top: int | Tensor | None = None, keep_infinities: bool = False
) -> Tensor:
    """`format.round(x, top=top)` of a tensor on any device; float32, or float64 for float64 input.

    Raises ValueError for channel and block scales, which this path does not have yet, TypeError for other dtypes, and
    ValueError for a `top` out of range.
    """
    if format.granularity is not Granularity.TENSOR:
        raise ValueError(
            f"{format.name} has a scale per {format.granularity}; on {x.device} only tensor scales can be rounded"
        )
    if not x.is_floating_point():
        raise TypeError(f"a tensor of {x.dtype} was given; floating-point tensors can be rounded")
    low, high = format.top_range
    if isinstance(top, int) and not low <= top <= high:
        raise ValueError(f"top {top} is outside {low} to {high}, where all values of {format.name} are float32 numbers")
    scale = find_top(format, x) if top is None else torch.as_tensor(top, device=x.device)
    wide = x.double()
    # Relative to 2^T in two halves, since 2^-T alone may be out of range; both factors are powers of two, so nothing is
    # rounded.
    half = torch.div(scale, 2, rounding_mode="floor")
    there, back = torch.exp2(-half.double()), torch.exp2(half.double())
    rest_there, rest_back = torch.exp2(-(scale - half).double()), torch.exp2((scale - half).double())
    relative = (wide.abs() * there * rest_there).clamp(max=format.max())
    # The exponent from the bits; zero counts as far below.
    binade = 1023 - (relative.view(torch.int64) >> 52)
    power = _steps(format.profile, x.device)[binade.clamp(0, len(format.profile))]
    rounded = torch.copysign(((relative + power) - power) * back * rest_back, wide)
    if keep_infinities:
        rounded = torch.where(wide.isinf(), wide, rounded)
    return rounded if x.dtype is torch.float64 else rounded.float()


def _steps(profile: Profile, device: torch.device) -> Tensor:
    """2^52 times the local step at T = 0 by binade below the top (float64); the last entry serves all below the
    smallest value."""
    exponents = [*(1 - p - d for d, p in enumerate(profile)), 1 - len(profile)]
    return torch.tensor(np.ldexp(1.0, np.array(exponents) + 52), device=device)
