"""Rounding in torch operations alone, for tensors on any device, bit for bit what the kernel gives.

The kernel's step is taken in float64 for float32 input: adding and subtracting 2^52 times the local step rounds a
magnitude to a multiple of it, to nearest with ties to even, and in float64 every number involved is a normal one at
every scale. The functions are plain torch operations without branches on data, so torch.compile fuses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from formats.scale import Granularity

if TYPE_CHECKING:
    from formats.kinds.profile_format import ProfileFormat


def _steps(format: ProfileFormat, device: torch.device) -> Tensor:
    """2^52 times the local step at T = 0 by binade below the top (float64); the last entry serves all below the
    smallest value."""
    exponents = [1 - p - d for d, p in enumerate(format.profile)]
    return torch.tensor(np.ldexp(1.0, np.array([*exponents, 1 - format.binades]) + 52), device=device)


def find_top(format: ProfileFormat, x: Tensor) -> Tensor:
    """The top exponent that the scale rule picks for a whole tensor: int64, no dimensions, on its device."""
    finite = torch.where(x.isfinite(), x.abs(), 0).double()
    largest = finite.amax() if x.numel() else finite.sum()
    above, headroom, low, high = format._rule
    fraction, exponent = torch.frexp(largest)
    more = torch.ldexp(fraction, torch.tensor(53)) - (1 << 52) > above
    return torch.where(largest > 0, exponent.long() - 1 + more + headroom, 0).clamp(low, high)


def round_anywhere(
    format: ProfileFormat, x: Tensor, top: int | Tensor | None = None, keep_infinities: bool = False
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
    power = _steps(format, x.device)[binade.clamp(0, format.binades)]
    rounded = torch.copysign(((relative + power) - power) * back * rest_back, wide)
    if keep_infinities:
        rounded = torch.where(wide.isinf(), wide, rounded)
    return rounded if x.dtype is torch.float64 else rounded.float()
