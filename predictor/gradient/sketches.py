"""Sketches of gradients, of which only sums are kept otherwise: inner products of two sketches are unbiased estimates
of those of the gradients, and from them follows the bias (`predictor.statistics.bias`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formats.kernel import BUCKETS, sketch_of_difference, sketch_places
from predictor.gradient.angle import in_order, memory_order


def add_sketch(found: NDArray[np.float64], quantized: Tensor, full: Tensor, first: int) -> None:
    """Add the sketches of d = quantized - full and of the full-precision gradient of one parameter to `found`, (2,
    BUCKETS). first: the place of its first element in all gradients as one vector."""
    if full.device.type == "cpu":
        sketch_of_difference(in_order(quantized, full), in_order(full, full), first, found)
    else:
        found += _sketch_elsewhere(quantized, full, first)


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
