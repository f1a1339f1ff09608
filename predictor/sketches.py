"""Sketches of gradients, of which only sums are kept otherwise: inner products of two sketches are unbiased estimates
of those of the gradients, and from them follows the bias (`predictor.statistics.bias`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formats.kernel import BUCKETS, sketch_of_difference, sketch_places
from predictor.angle import in_order, memory_order


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
    order = memory_order(g)
    wide = g.detach().permute(order).reshape(-1).double()
    d = q.detach().permute(order).reshape(-1).double() - wide
    rows = [
        torch.zeros(BUCKETS, dtype=torch.float64, device=g.device).index_add_(0, buckets, signs * x) for x in (d, wide)
    ]
    return torch.stack(rows).cpu().numpy()
