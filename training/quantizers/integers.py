"""Integers with a step and a zero point, over a range that need not be symmetric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import formats
from formats import Rounding
from training.quantizers.clipped import SMALLEST_STEP
from training.quantizers.estimator import straight_through
from training.weights import Streams


def zero_point(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Step (float32) and whole zero point of the grid 0 .. 2^bits - 1 over a range, widened so that it holds 0, which
    is then exact.

    Source: docs/definitions/calibration.md section 2.
    """
    low, high = low.clamp(max=0).double(), high.clamp(min=0).double()
    step = ((high - low) / (2**bits - 1)).float().clamp(min=SMALLEST_STEP)
    return step, (-low / step.double()).round().clamp(0, 2**bits - 1)


def whole_steps(x: Tensor, step: Tensor, rounding: Rounding, streams: Streams | None) -> Tensor:
    """Whole multiples of a float32 step, of at most 15 bits: nearest, or drawn, which takes a stream. float32; NaN
    stays."""
    mode = {} if streams is None else streams.arguments(rounding)
    integers: Any = formats.get("INT16")
    if not step.isfinite():
        return torch.full_like(x, torch.nan, dtype=torch.float32)
    return torch.from_numpy(integers.round_scaled(x.detach().float().cpu(), step.cpu(), **mode)).to(x.device)


def asymmetric(
    x: Tensor,
    low: Tensor,
    high: Tensor,
    bits: int,
    rounding: Rounding = Rounding.NEAREST,
    streams: Streams | None = None,
    within: bool = False,
) -> Tensor:
    """x on the grid of `zero_point`; the gradient goes through inside the range. within: low and high are x's own least
    and largest."""
    step, zero = zero_point(low, high, bits)
    # Products with the step keep the order of whole numbers, so that the grid's ends can be told in them.
    values = whole_steps(x, step, rounding, streams)
    least, most = ((end.double() * step.double()).float().item() for end in (-zero, 2**bits - 1 - zero))
    if within and rounding is Rounding.NEAREST:
        # Rounding is monotone, so the ends tell whether any element lies beyond the grid.
        reached = whole_steps(torch.stack([low, high]), step, rounding, None).tolist()
    else:
        reached = [values.amin().item(), values.amax().item()]
    if least <= reached[0] and reached[1] <= most:
        return straight_through(x, values.to(x.dtype))
    inside = (values >= least) & (values <= most) if torch.is_grad_enabled() and x.requires_grad else None
    return straight_through(x, values.clamp_(least, most).to(x.dtype), inside)


def asymmetric_range(
    x: Tensor, bits: int, rounding: Rounding = Rounding.NEAREST, streams: Streams | None = None
) -> Tensor:
    """The same over the tensor's own range."""
    return asymmetric(x, x.detach().amin(), x.detach().amax(), bits, rounding, streams, within=True)
