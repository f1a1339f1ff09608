"""The indicator: the angle between a quantized and the full-precision weight gradient (docs/definitions/prediction.md
section 2).

Source: Lee, Park, Jeon, ICLR 2022, section 2.2. With d = g_q - g the angle follows from <d,g>, |d|^2 and |g|^2, which
add up over layers; small angles survive, as they do not through acos.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import carray, njit  # type: ignore[attr-defined]
from numpy.typing import NDArray
from torch import Tensor

from formats.kernel import threads
from formats.kernel.memory import address_of, pointer_double, pointer_float
from formats.kernel.task import ANY, COLUMNS, FLAT_TILE, TILES, Task, flat, share

FAILED = 90.0
"""Degrees that stand for a zero or non-finite gradient."""


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _sums(quantized, full):  # type: ignore[no-untyped-def]
    product, difference, square = 0.0, 0.0, 0.0
    for i in range(full.size):
        g = np.float64(full[i])
        d = np.float64(quantized[i]) - g
        product += d * g
        difference += d * d
        square += g * g
    return product, difference, square


@Task
def _sums_of_tiles(pointer):  # type: ignore[no-untyped-def]
    w = carray(pointer, (32,))
    full, quantized = carray(pointer_float(w[7]), (ANY,)), carray(pointer_float(w[10]), (ANY,))
    found = carray(pointer_double(w[11]), (ANY,))
    begin, end = share(w)
    for tile in range(begin, end):
        first = tile * FLAT_TILE
        last = min(first + FLAT_TILE, w[COLUMNS])
        found[3 * tile], found[3 * tile + 1], found[3 * tile + 2] = _sums(quantized[first:last], full[first:last])


def _sums_in_threads(quantized: NDArray[Any], full: NDArray[Any]) -> NDArray[np.float64]:
    """<d,g>, |d|^2 and |g|^2 of two arrays of one dimension; the same bits for any number of threads."""
    if full.size <= FLAT_TILE or not quantized.dtype == full.dtype == np.float32:
        return np.array(_sums(quantized, full))
    words = flat(full)
    found = np.empty((words[TILES], 3))
    threads.run(_sums_of_tiles, [*words, address_of(quantized), address_of(found)], full.size)
    total: NDArray[np.float64] = found.sum(0)
    return total


def memory_order(x: Tensor) -> list[int]:
    """The dimensions of a tensor from the largest stride to the smallest."""
    return sorted(range(x.ndim), key=x.stride, reverse=True)


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
        rows.append(_sums_in_threads(in_order(q, g), in_order(g, g)))
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
