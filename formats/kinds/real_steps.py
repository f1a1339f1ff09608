"""Quantization with a real scale: x / step is rounded to a grid, and the value times step is the result."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.layout import dense_order
from formats.rounding import ModeChoice
from formats.scale import Granularity, Grouping, Scale, group


def round_to_steps(
    x: NDArray[np.float32],
    step: ArrayLike,
    scale: Scale,
    mode: ModeChoice,
    top: int,
    grid: NDArray[np.int64],
    keep_infinities: bool,
) -> NDArray[np.float32]:
    """A float32 array rounded to a grid whose top exponent is `top` where its step is 1; `scale` says which elements
    share a step."""
    from formats import kernel

    steps, groups = np.asarray(step, np.float32), group(scale, x.shape)
    if steps.shape != groups.groups:
        raise ValueError(f"step has shape {steps.shape}; here {groups.groups} is needed")
    if not ((steps > 0) & (steps < np.inf)).all():
        raise ValueError(f"steps from {steps.min()} to {steps.max()}; positive finite numbers are needed")
    order = None if scale.per is Granularity.BLOCK else dense_order(x)
    if order is None:
        x, order = np.ascontiguousarray(x).reshape(x.shape), list(range(x.ndim))
    out, run, line = np.empty_like(x), x.size, x.size
    in_turn = steps.astype(np.float64).reshape(-1)
    if scale.per is Granularity.BLOCK:
        in_turn, run, line = in_rows(in_turn, groups)
    elif scale.axis is not None and x.ndim:
        # So many neighbours in memory have one step.
        run = math.prod(x.shape[d] for d in order[order.index(scale.axis % x.ndim) + 1 :])
        line = run * steps.size
    flat, flat_out = (each.transpose(order).reshape(-1, copy=False) for each in (x, out))
    kernel.round_scaled(flat, flat_out, in_turn, run, line, top, grid, keep_infinities, mode)
    return out


def in_rows(steps: NDArray[np.float64], groups: Grouping) -> tuple[NDArray[np.float64], int, int]:
    """The steps of the groups of an array in row-major order, as the loops take them: those of each row's tiles, how
    many neighbours a tile has, and how many a row."""
    rows = groups.per_tile(steps).repeat(groups.tile[0], axis=1)[:, : groups.shape[1]]
    return np.ascontiguousarray(rows).reshape(-1), groups.tile[1], groups.shape[2]
