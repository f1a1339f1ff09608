"""The indicator: the angle between a quantized and the full-precision weight gradient (docs/definitions/prediction.md
section 2).

Source: Lee, Park, Jeon, ICLR 2022, section 2.2. With d = g_q - g the angle follows from <d,g>, |d|^2 and |g|^2, which
add up over layers; small angles survive, as they do not through acos.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formats.kernel import sums_of_difference

FAILED = 90.0
"""Degrees that stand for a zero or non-finite gradient."""


@lru_cache(maxsize=1024)
def _order_of(strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(strides)), key=strides.__getitem__, reverse=True))


def memory_order(x: Tensor) -> tuple[int, ...]:
    """The dimensions of a tensor from the largest stride to the smallest."""
    return _order_of(x.stride())


def in_order(x: Tensor, like: Tensor) -> NDArray[Any]:
    """The elements of x in the memory order of `like`, of the same shape, without a copy where they lie so without
    gaps."""
    return x.detach().permute(memory_order(like)).contiguous().reshape(-1).numpy()


def layer_sums(quantized: Sequence[Tensor], full: Sequence[Tensor]) -> NDArray[np.float64]:
    """<d,g>, |d|^2 and |g|^2 of each pair of tensors of equal shape, on any device: (layers, 3) float64."""
    if any(g.device.type != "cpu" for g in full):
        return _sums_elsewhere(quantized, full)
    rows = []
    for q, g in zip(quantized, full, strict=True):
        rows.append(sums_of_difference(in_order(q, g), in_order(g, g)))
    return np.array(rows, np.float64).reshape(-1, 3)


def _sums_elsewhere(quantized: Sequence[Tensor], full: Sequence[Tensor]) -> NDArray[np.float64]:
    """The same on another device, where only the sums leave it."""
    rows = []
    for q, g in zip(quantized, full, strict=True):
        wide = g.detach().double()
        d = q.detach().double() - wide
        rows.append(torch.stack([(d * wide).sum(), (d * d).sum(), (wide * wide).sum()]))
    return torch.stack(rows).cpu().numpy()


def failed(sums: NDArray[np.float64]) -> bool:
    """Whether the quantized gradient that these sums describe is zero or not finite."""
    product, difference, square = (float(value) for value in sums)
    return not math.isfinite(difference) or not math.isfinite(product) or (difference == square and product == -square)


def degrees(sums: NDArray[np.float64]) -> float:
    """The angle in degrees from <d,g>, |d|^2, |g|^2; 90 for a zero or non-finite quantized gradient."""
    if failed(sums):
        return FAILED
    product, difference, square = (float(value) for value in sums)
    return math.degrees(math.atan2(math.sqrt(max(0.0, difference * square - product * product)), square + product))


def projection(sums: NDArray[np.float64]) -> float:
    """<g_q, g> / |g|^2: 1 where the quantized gradient is as long as the full-precision one along its direction; NaN
    where one is zero or not finite."""
    if failed(sums) or not sums[2]:
        return math.nan
    return 1 + float(sums[0] / sums[2])


def length_ratio(sums: NDArray[np.float64]) -> float:
    """|g_q| / |g|; NaN as for `projection`."""
    if failed(sums) or not sums[2]:
        return math.nan
    return math.sqrt(max(0.0, float(1 + (2 * sums[0] + sums[1]) / sums[2])))


def deviation(sums: NDArray[np.float64]) -> float:
    """1 - cos of the same angle, from 0 to 2; 0 where the full-precision gradient is zero, 1 where only the quantized
    one is, or is not finite.

    Source: F. Zhu et al., CVPR 2020 (docs/definitions/methods.md section 4). By 2 sin^2 of half the angle, which keeps
    small ones.
    """
    if sums[2] == 0:
        return 0.0
    if failed(sums):
        return 1.0
    return 2 * math.sin(math.radians(degrees(sums)) / 2) ** 2
