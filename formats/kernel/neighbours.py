"""Rounding to one of two neighbours that any values may be, in the modes other than to nearest.

Stochastic rounding asks whether u < floor(2^32 (a - low) / (high - low)) for a 32-bit number u. With w = (u + 1) / 2^32
that is w (high - low) <= a - low: no quotient, but more bits than a float64 has. So the two sides are found in float64,
which is enough unless they agree to nearly all bits; then a - low - w high + w low is split into terms that are float64
numbers, and added without loss (J. Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
Predicates", 1997, section 2.4).
"""

from typing import Any

import numpy as np
from numba import float64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import i8
from formats.kernel.exact import DOWN, HYSTERESIS, MODES, STOCHASTIC, UP
from formats.kernel.philox import fill
from formats.kernel.threads import share, task
from formats.kernel.tiling import CHUNK
from formats.kernel.words import NUMBER, UNSIGNED, Words
from formats.rounding import ModeChoice

DOUBT = 2.0**-50
"""More than the relative error of the two sides as float64 finds them, which is 2^-51 of their sum."""


@njit(nogil=True)
def _reaches_exactly(a, low, high, number):
    """Whether number / 2^32 * (high - low) <= a - low; low and high are of 24 bits, number of 33."""
    upper, lower = np.float64(number >> 16) * 2.0**-16, np.float64(number & 0xFFFF) * 2.0**-32
    terms = (a, -low, -upper * high, -lower * high, upper * low, lower * low)
    parts = np.zeros(6)  # ascending, without overlap: their sum is that of the terms so far
    for count in range(6):
        total = terms[count]
        for i in range(count):
            before = total
            total = before + parts[i]
            gained = total - before
            parts[i] = (before - (total - gained)) + (parts[i] - gained)
        parts[count] = total
    for i in range(5, -1, -1):
        if parts[i] != 0:
            return parts[i] > 0
    return True


@njit(nogil=True, inline="always")
def weigh(a, low, high, random):
    """What is between a and low, what the random number asks for, and whether float64 tells which is more."""
    given, needed = a - low, (np.float64(random) + 1.0) * 2.0**-32 * (high - low)
    return given, needed, abs(given - needed) > (given + needed) * DOUBT


@njit(nogil=True, inline="always")
def reaches(a, low, high, random):
    """Whether random < floor(2^32 (a - low) / (high - low)), exactly; low <= a <= high, low and high of 24 bits, low <
    high."""
    given, needed, clear = weigh(a, low, high, random)
    return given > needed if clear else _reaches_exactly(a, low, high, i8(random) + 1)


@njit(nogil=True, inline="always")
def goes_up(a, low, high, mode, negative, random, above):
    """Whether a, between low < a < high, becomes high, in any mode but the two to nearest: the rule
    `formats.rounding.between`.

    a is not negative; it and its neighbours are mirrored where x is (`negative`), so that high lies away from zero.
    random: the element's 32-bit number. above: hysteresis' "the previous value is above x".
    """
    if mode == STOCHASTIC:
        return reaches(a, low, high, random)
    if mode == UP:
        return not negative
    if mode == DOWN:
        return negative
    if mode == HYSTERESIS:
        return above != negative
    return low < 0 and high <= -low  # toward zero: the smaller in magnitude, which is high where zero is no value


WORDS = Words(
    elements=NUMBER,
    x=float64[::1],
    low=float64[::1],
    high=float64[::1],
    previous=float64[::1],
    out=float64[::1],
    mode=NUMBER,
    seed=UNSIGNED,
    stream=UNSIGNED,
)


@task(WORDS)
def _round_between(w):
    x, low, high, previous, out, mode = w.x, w.low, w.high, w.previous, w.out, w.mode
    first, last = share(w.elements)
    random = np.zeros(CHUNK + 4, np.uint32)
    for start in range(first, last, CHUNK):
        width, skip = min(CHUNK, last - start), start % 4
        if mode == STOCHASTIC:
            fill(random[: (width + skip + 3) // 4 * 4], start // 4, w.seed, w.stream)
        for i in range(start, start + width):
            a, y = abs(x[i]), low[i]
            if y < a and y < high[i]:
                above = mode == HYSTERESIS and previous[i] > x[i]
                if goes_up(a, y, high[i], mode, x[i] < 0, random[i - start + skip], above):
                    y = high[i]
            out[i] = y


def round_between(
    x: NDArray[Any], low: NDArray[np.float64], high: NDArray[np.float64], mode: ModeChoice
) -> NDArray[np.float64]:
    """What each |x| becomes of its two neighbours low <= |x| < high, by `formats.rounding.between`.

    Args:
        x: Any shape and dtype that float64 holds; the result for NaN means nothing.
        low: float32 numbers of x's shape, as float64.
        high: The same; where it is low, low is the result.
        mode: Any but those to nearest.

    Returns:
        Magnitudes, float64 of x's shape.
    """
    with np.errstate(invalid="ignore"):  # signalling NaN
        wide, before = (
            np.ascontiguousarray(each, np.float64) for each in (x, x if mode.previous is None else mode.previous)
        )
    lower, upper, out = np.ascontiguousarray(low), np.ascontiguousarray(high), np.empty(x.shape)
    words = WORDS.pack(
        elements=x.size,
        x=wide,
        low=lower,
        high=upper,
        previous=before,
        out=out,
        mode=MODES[mode.rounding],
        seed=mode.seed,
        stream=mode.stream,
    )
    threads.run(_round_between, words, x.size)
    return out
