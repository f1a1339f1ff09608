"""What angles are expected to be before any is measured: from noise alone, with equal weights of all tensors.

Noise of errors turns the gradient about as far as its mean over tensors says, noise of activations as far as its sum
(each layer adds its own to what the next one sees). That is the order of formats more than it is their angles: those
were within a quarter on two ResNet-20 and a Transformer (benchmarks/replay.py), and a tenth of it on a network of two
layers, where few tensors are rounded of which the gradient depends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from predictor.effects import Effect
from predictor.estimate.regression import LEAST, MOST
from predictor.estimate.surrogate import KINDS, LIMIT, to_degrees
from predictor.gradient.noise import Kind

Array = NDArray[np.float64]
SHARE_OF_SUM = 0.86
"""What the sum over activations counts."""
COMMON, OWN = 2.5, 0.4
"""Standard deviations in units of 2 log tan(angle / 2): of a network, and of a format on it."""


def expected(effect: Effect, kinds: Sequence[Kind], ratios: Array) -> tuple[Array, Array, Array]:
    """Angles of formats and their 95% intervals, in degrees, from ratios (formats, rows); kinds: of the rows."""
    total = np.zeros(len(ratios))
    finite = np.clip(np.nan_to_num(ratios, nan=MOST, posinf=MOST), LEAST, MOST)
    for kind in KINDS[effect]:
        rows = np.flatnonzero([entry is kind for entry in kinds])
        if len(rows):
            total += finite[:, rows].mean(1) if kind is Kind.E else SHARE_OF_SUM * finite[:, rows].sum(1)
    scale, half = np.log(total), LIMIT * np.hypot(COMMON, OWN)
    return to_degrees(scale), to_degrees(scale - half), to_degrees(scale + half)
