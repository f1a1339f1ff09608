"""Quantization with a real scale: x / step is rounded to a grid, and the value times step is the result."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.layout import as_it_lies
from formats.rounding import ModeChoice
from formats.scale import Grouping, Scale, group


def round_to_steps(
    x: NDArray[np.float32],
    step: ArrayLike,
    scale: Scale,
    mode: ModeChoice,
    top: int,
    grid: NDArray[np.int64],
    keep_infinities: bool,
    between: bool = False,
) -> NDArray[np.float32]:
    """A float32 array rounded to a grid whose top exponent is `top` where its step is 1; `scale` says which elements
    share a step. between: of stochastic rounding, whether it chooses between the two values around x, with random
    numbers by an element's place in the logical order, else between those around the quotient, by that in memory."""
    from formats import kernel

    steps, groups = np.asarray(step, np.float32), group(scale, x.shape)
    if steps.shape != groups.groups:
        raise ValueError(f"step has shape {steps.shape}; here {groups.groups} is needed")
    if not ((steps > 0) & (steps < np.inf)).all():
        raise ValueError(f"steps from {steps.min()} to {steps.max()}; positive finite numbers are needed")
    if not x.size:
        return np.empty_like(x)
    order = list(range(x.ndim))
    if not between:
        x, scale, order = as_it_lies(x, scale)
    lying = np.ascontiguousarray(x).reshape(x.shape)
    out = np.empty_like(lying)
    shape, tile, own = _tiles(steps.astype(np.float64, order="C"), group(scale, x.shape), order)
    kernel.round_scaled(lying.reshape(shape), out.reshape(shape), own, tile, top, grid, keep_infinities, mode, between)
    return out.transpose(np.argsort(order))


def _tiles(
    steps: NDArray[np.float64], groups: Grouping, order: list[int]
) -> tuple[tuple[int, int, int], tuple[int, int], NDArray[np.float64]]:
    """An array's shape as (batch, rows, columns), its tiles' rows and columns, and the step of each tile. steps: of the
    group shape before axes were brought into this order."""
    batch, rows, columns = groups.shape
    if groups.shared and columns == 1:
        # Channels side by side in memory.
        return (1, batch, rows), (max(batch, 1), 1), steps.reshape(1, 1, -1)
    if steps.ndim == len(order) > 1:
        steps = np.ascontiguousarray(steps.transpose(order))
    return groups.shape, groups.tile, groups.per_tile(steps)
