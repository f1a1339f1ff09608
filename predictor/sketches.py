"""Bias: the part of what rounding does to a gradient that does not average out over mini-batches
(docs/definitions/prediction.md section 7).

With d_b = g_q - g on mini-batch b, |E d|^2 is the mean of <d_b, d_c> over pairs of different mini-batches. Gradients
are not kept, only a sketch of each, whose inner products are unbiased estimates of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formats.kernel import BUCKETS, sketch_of_difference, sketch_places
from predictor.angle import in_order

FEWEST = 3
"""Mini-batches that an interval takes."""
HALF_WIDTH = 1.96
"""Standard errors on either side of a 95% interval."""


def sketch(quantized: Sequence[Tensor], full: Sequence[Tensor]) -> NDArray[np.float32]:
    """The sketches of d = quantized - full and of the full-precision gradient, all tensors as one vector: (2,
    BUCKETS)."""
    found, first = np.zeros((2, BUCKETS)), 0
    for q, g in zip(quantized, full, strict=True):
        if g.device.type == "cpu":
            sketch_of_difference(in_order(q, g), in_order(g, g), first, found)
        else:
            found += _sketch_elsewhere(q, g, first)
        first += g.numel()
    return found.astype(np.float32)


def _sketch_elsewhere(q: Tensor, g: Tensor, first: int) -> NDArray[np.float64]:
    """The same of one tensor on another device, where only the sketch leaves it."""
    buckets, signs = (torch.from_numpy(array).to(g.device) for array in sketch_places(first, g.numel()))
    order = sorted(range(g.ndim), key=g.stride, reverse=True)
    wide = g.detach().permute(order).reshape(-1).double()
    d = q.detach().permute(order).reshape(-1).double() - wide
    rows = [
        torch.zeros(BUCKETS, dtype=torch.float64, device=g.device).index_add_(0, buckets, signs * x) for x in (d, wide)
    ]
    return torch.stack(rows).cpu().numpy()


@dataclass(frozen=True)
class Bias:
    """|E d|^2 over the variance of the full-precision gradient, E|g|^2 - |E g|^2: how much of a mini-batch's own noise
    it would take to turn every step by as much.

    Attributes:
        value: The estimate, unbiased above and below the line, so that it can be negative; NaN for fewer than two
            mini-batches.
        low: Of its 95% interval, by the jackknife over mini-batches; NaN for fewer than FEWEST.
        high: The other end.
    """

    value: float
    low: float
    high: float


def bias(sketches: Sequence[NDArray[np.float32]], squares: Sequence[float]) -> Bias:
    """The bias of one format and effect.

    Args:
        sketches: What `sketch` gave on each mini-batch.
        squares: |g|^2 on each.

    Source:
        docs/definitions/prediction.md section 7.
    """
    n = len(sketches)
    if n < 2:
        return Bias(math.nan, math.nan, math.nan)
    each, energy = np.asarray(sketches, np.float64), np.asarray(squares, np.float64)
    value = _ratio(each, energy)
    if n < FEWEST:
        return Bias(value, math.nan, math.nan)
    others = (
        np.array([_ratio(np.delete(each, b, 0), np.delete(energy, b)) for b in range(n)]) if n > 2 else np.array([])
    )
    error = math.sqrt((n - 1) / n * float(((others - others.mean()) ** 2).sum()))
    return Bias(value, value - HALF_WIDTH * error, value + HALF_WIDTH * error)


def _ratio(sketches: NDArray[np.float64], squares: NDArray[np.float64]) -> float:
    """|E d|^2 / (E|g|^2 - |E g|^2) from (n, 2, BUCKETS) sketches and |g|^2."""
    n = len(sketches)
    total, own = sketches.sum(0), (sketches**2).sum(2)
    # |sum|^2 less every mini-batch with itself is twice the sum over pairs.
    of_difference, of_gradient = ((total**2).sum(1) - own.sum(0)) / (n * (n - 1))
    variance = float(squares.mean()) - of_gradient
    return float(of_difference / variance) if variance > 0 else math.nan
