"""The values of posits; `posit` in formats/kinds/codebooks.py makes them a format.

Source: Posit Working Group, "Standard for Posit Arithmetic (2022)", sections 3 and 4, with es left free.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def positive_values(bits: int, es: int) -> NDArray[np.float64]:
    """The values of the posit codes 0 to 2^(bits-1) - 1, exactly (section 3 of the standard)."""
    body = np.arange(1, 1 << (bits - 1), dtype=np.int64)  # without the sign bit, which is 0
    width = bits - 1
    ones = body >> (width - 1) == 1
    # The regime is a run of equal bits and the first different one: where the run ends is the length of what follows
    # it.
    _, rest = np.frexp(np.where(ones, ~body & ((1 << width) - 1), body).astype(np.float64))
    run = width - rest.astype(np.int64)
    regime = np.where(ones, run - 1, -run)
    left = np.maximum(width - run - 1, 0)
    tail = body & ((1 << left) - 1)
    # Exponent bits that fell off the end are zeros.
    exponent = np.where(left >= es, tail >> np.maximum(left - es, 0), tail << np.maximum(es - left, 0))
    fraction_bits = np.maximum(left - es, 0)
    fraction = tail & ((1 << fraction_bits) - 1)
    whole = (fraction + (1 << fraction_bits)).astype(np.float64)
    return np.concatenate([np.zeros(1), np.ldexp(whole, regime * (1 << es) + exponent - fraction_bits)])


def values_and_boundaries(bits: int, es: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The nonnegative posits, and the numbers between them where rounding changes (section 4 of the standard).

    x between the neighbours u < w is compared with the posit of one bit more whose code is that of u followed by a 1.
    So between regimes, and where exponent bits are cut off, the boundary is not the arithmetic mean: posit<6,1> has 64
    and 256 with 128 between them, not 160.
    """
    # The codes of one bit more are in turn these posits and the boundaries above them.
    finer = positive_values(bits + 1, es)
    return tuple(finer[::2].tolist()), tuple(finer[1:-1:2].tolist())
