"""Rounding to nearest among values as one binary search: the smallest float that goes to the upper of two neighbours.

Between two neighbouring values lies a boundary; all that matters about it is the smallest float that goes to the upper
value. Those floats are found once, exactly, and then no tie is left to decide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def first_above(
    values: NDArray[np.float64], boundaries: NDArray[np.float64] | None, stays_on_tie: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The smallest float64 that goes up, for each boundary of ascending values; exact.

    boundaries: None for the midpoints. stays_on_tie: which boundaries go down themselves.
    """
    if boundaries is None:
        boundaries, lost = _midpoints(values)
    else:
        lost = np.zeros(len(boundaries))
    # Where the true midpoint lies above the rounded one, the next float64 is the first above it; where it lies below,
    # the rounded one is.
    return np.where((lost > 0) | ((lost == 0) & stays_on_tie), np.nextafter(boundaries, np.inf), boundaries)


def _midpoints(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The midpoints of neighbours as float64, and what of the sum was lost by that (Knuth's two-sum, which is exact).
    Where nothing was, the midpoint is a float64, and is a tie."""
    lower, upper = values[:-1], values[1:]
    total = lower + upper
    part = total - lower
    return total / 2, (lower - (total - part)) + (upper - part)


def as_float32(steps: NDArray[np.float64]) -> NDArray[np.float32]:
    """The smallest float32 at or above each: a search among float32 numbers stays in float32."""
    near = steps.astype(np.float32)
    return np.where(near < steps, np.nextafter(near, np.float32(np.inf)), near).astype(np.float32)
