"""Statistics of channels in two passes over memory: the largest magnitude, and how much lies beyond the deviation."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor


class Sigma(StrEnum):
    """A channel's deviation: about its mean, or about zero."""

    MEAN = "mean"
    ZERO = "zero"


# Two memory orders, (outer, channels, inner) with inner 1 or channels 1 at a time, so that the innermost loop runs along memory.


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _moments_across(x, largest, total, square):  # type: ignore[no-untyped-def]
    for row in range(x.shape[0]):
        for c in range(x.shape[1]):
            value = np.float64(x[row, c])
            largest[c] = max(largest[c], abs(x[row, c]))
            total[c] += value
            square[c] += value * value


@njit(nogil=True, cache=True)
def _beyond_across(x, deviation, count):  # type: ignore[no-untyped-def]
    for row in range(x.shape[0]):
        for c in range(x.shape[1]):
            count[c] += np.int32(abs(x[row, c]) > deviation[c])


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _moments_along(x, largest, total, square):  # type: ignore[no-untyped-def]
    for outer in range(x.shape[0]):
        for c in range(x.shape[1]):
            most, sums, squares = np.float32(0), 0.0, 0.0
            for i in range(x.shape[2]):
                value = np.float64(x[outer, c, i])
                most = max(most, abs(x[outer, c, i]))
                sums += value
                squares += value * value
            largest[c] = max(largest[c], most)
            total[c] += sums
            square[c] += squares


@njit(nogil=True, cache=True)
def _beyond_along(x, deviation, count):  # type: ignore[no-untyped-def]
    for outer in range(x.shape[0]):
        for c in range(x.shape[1]):
            found = np.int32(0)
            for i in range(x.shape[2]):
                found += np.int32(abs(x[outer, c, i]) > deviation[c])
            count[c] += found


def channel_statistics(x: Tensor, axis: int, sigma: Sigma | str = Sigma.MEAN) -> tuple[Tensor, Tensor]:
    """The largest magnitude of each channel, float32, and the part of its elements whose magnitude exceeds the deviation, float64; NaN counts as neither.

    x: float32 with channels along `axis`. sigma: the deviation about the mean or about zero. Two passes, whatever the memory order.
    """
    channels = x.shape[axis]
    last = x.detach().float().movedim(axis, -1)
    views: Any
    if last.is_contiguous():
        views, moments, beyond = last.reshape(-1, channels).numpy(), _moments_across, _beyond_across
    else:
        views = x.detach().float().contiguous().reshape(int(np.prod(x.shape[:axis])), channels, -1).numpy()
        moments, beyond = _moments_along, _beyond_along
    largest, total, square, count = np.zeros(channels, np.float32), np.zeros(channels), np.zeros(channels), np.zeros(channels, np.int32)
    moments(views, largest, total, square)
    elements = max(1, x.numel() // max(1, channels))
    mean = total / elements if Sigma(sigma) is Sigma.MEAN else 0.0
    deviation = np.sqrt(np.maximum(square / elements - np.square(mean), 0))
    beyond(views, deviation.astype(np.float32), count)
    return torch.from_numpy(largest), torch.from_numpy(count / elements)
