"""Quantization with a real scale: x / step is rounded to a grid, and the value times step is the result."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.layout import dense_order
from formats.rounding import ModeChoice
from formats.scale import Granularity, Scale, group


def round_to_steps(
    x: NDArray[np.float32],
    step: ArrayLike,
    axis: int | None,
    mode: ModeChoice,
    top: int,
    grid: NDArray[np.int64],
    keep_infinities: bool,
) -> NDArray[np.float32]:
    """`ProfileFormat.round_scaled` of a float32 array, to a grid whose top exponent is `top` where its step is 1."""
    from formats import kernel

    steps = np.asarray(step, np.float32)
    wanted = () if axis is None else group(Scale(per=Granularity.CHANNEL, axis=axis), x.shape).groups
    if steps.shape != wanted:
        raise ValueError(f"step has shape {steps.shape}; here {wanted} is needed")
    if not ((steps > 0) & (steps < np.inf)).all():
        raise ValueError(f"steps from {steps.min()} to {steps.max()}; positive finite numbers are needed")
    order = dense_order(x)
    if order is None:
        x, order = np.ascontiguousarray(x).reshape(x.shape), list(range(x.ndim))
    out, run = np.empty_like(x), x.size
    if axis is not None and x.ndim:
        # So many neighbours in memory have one step.
        run = math.prod(x.shape[d] for d in order[order.index(axis % x.ndim) + 1 :])
    flat, flat_out = (each.transpose(order).reshape(-1, copy=False) for each in (x, out))
    one_per_run = steps.astype(np.float64).reshape(-1)
    kernel.round_scaled(flat, flat_out, one_per_run, run, top, grid, keep_infinities, mode)
    return out
