"""Statistics of channels in two passes over memory: the largest magnitude, and how much lies beyond the deviation."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.methods.channels_kernel import beyond_across, beyond_along, moments_across, moments_along


class Sigma(StrEnum):
    """A channel's deviation: about its mean, or about zero."""

    MEAN = "mean"
    ZERO = "zero"


def channel_statistics(x: Tensor, axis: int, sigma: Sigma | str = Sigma.MEAN) -> tuple[Tensor, Tensor]:
    """The largest magnitude of each channel, float32, and the part of its elements whose magnitude exceeds the
    deviation, float64; NaN counts as neither.

    x: float32 with channels along `axis`. sigma: the deviation about the mean or about zero. Two passes, whatever the
    memory order.
    """
    channels = x.shape[axis]
    last = x.detach().float().movedim(axis, -1)
    views: Any
    if last.is_contiguous():
        views, moments, beyond = last.reshape(-1, channels).numpy(), moments_across, beyond_across
    else:
        views = x.detach().float().contiguous().reshape(int(np.prod(x.shape[:axis])), channels, -1).numpy()
        moments, beyond = moments_along, beyond_along
    largest, total, square, count = (
        np.zeros(channels, np.float32),
        np.zeros(channels),
        np.zeros(channels),
        np.zeros(channels, np.int32),
    )
    moments(views, largest, total, square)
    elements = max(1, x.numel() // max(1, channels))
    mean = total / elements if Sigma(sigma) is Sigma.MEAN else 0.0
    deviation = np.sqrt(np.maximum(square / elements - np.square(mean), 0))
    beyond(views, deviation.astype(np.float32), count)
    return torch.from_numpy(largest), torch.from_numpy(count / elements)
