"""Runs of neighbours with one scale, rounded to nearest: `formats.rounding.rounded` for many numbers at once.

How the fast loops work. Adding a power of two, 2^23 times the step, to a magnitude below it makes the processor round
the magnitude to a multiple of that step, to nearest with ties to the even multiple; subtracting it again is exact. So
rounding is: clamp to the largest value, find the step of the binade from the exponent bits, add, subtract, put the sign
back. This is exact wherever the sums are normal numbers, and it goes to zero below the smallest value as the definition
asks, since the step there is that value.

Going down, a gradual-underflow tail loses one bit a binade, so its step stays the same: the exponent is just not taken
below where the tail begins. Going up from there, each change of precision shifts the step from that binade on; up to
two changes (all of the catalogue) are two comparisons, and others are looked up in four words of eight four-bit
precisions each. Nothing is looked up in memory, and the loops compile to vector instructions.
"""

import numpy as np
from numba import njit

from formats.kernel.bits import INFINITY4, MAGNITUDE4, MAGNITUDE8, SIGN4, SIGN8, as_bits, as_float, by_width, i4, i8
from formats.kernel.exact import NEAREST, round_magnitude
from formats.kernel.grid import (
    BINADES,
    CHANGES_LOOP,
    LOOP,
    PACKED,
    PROFILE,
    change_bits,
    has_steps_of_float32,
    highest_bits,
    is_fast,
)


@njit(nogil=True, inline="always")
def finish(u, a, c, power, passing):
    """Bits of the clamped magnitude c rounded by adding `power`; a itself above `passing`; the sign of u.

    To nearest with ties to even, as `formats.rounding.between` says, by what the processor's addition does.
    """
    big = as_float(power)
    y = as_bits(np.float32(np.float32(as_float(c) + big) - big))
    y = a if a > passing else y
    return i4(y | i4(u & i4(SIGN4)))


@njit(nogil=True)
def _run_changes(x, out, highest, passing, tail, shift, change1, delta1, change2, delta2):
    for i in range(x.size):
        u = x[i]
        a = i4(u & i4(MAGNITUDE4))
        c = min(a, highest)
        power = i4(max(i4(c & i4(INFINITY4)), tail) + shift)
        power = i4(power + (delta1 if c >= change1 else i4(0)))
        power = i4(power + (delta2 if c >= change2 else i4(0)))
        out[i] = finish(u, a, c, power, passing)


@njit(nogil=True)
def _run_packed(x, out, highest, passing, bottom, w0, w1, w2, w3):
    for i in range(x.size):
        u = x[i]
        a = i4(u & i4(MAGNITUDE4))
        c = min(a, highest)
        field = max(i4(c >> i4(23)), bottom)
        j = min(i4(field - bottom), i4(31))
        word = w1 if j >= i4(8) else w0
        word = w2 if j >= i4(16) else word
        word = w3 if j >= i4(24) else word
        kept = i4(i4(word >> i4(i4(j << i4(2)) & i4(31))) & i4(15))
        power = i4(i4(i4(field + i4(24)) - kept) << i4(23))
        out[i] = finish(u, a, c, power, passing)


@njit(nogil=True)
def _run_bits(x, out, highest, passing, dropped):
    """Where steps are those of float32 times a power of two in every binade, subnormal ones too, as of bfloat16 and
    TF32: the bits of a magnitude are rounded as a whole number, and a carry goes into the exponent."""
    half = i4((i4(1) << dropped) >> i4(1))
    mask = i4(-(i4(1) << dropped))
    for i in range(x.size):
        u = x[i]
        a = i4(u & i4(MAGNITUDE4))
        c = min(a, highest)
        odd = i4(i4(c >> dropped) & i4(1))
        y = i4(i4(c + i4(i4(half - i4(1)) + odd)) & mask)
        y = a if a > passing else y
        out[i] = i4(y | i4(u & i4(SIGN4)))


@njit(nogil=True)
def round4(x, out, top, grid, passing):
    """Round a run of float32 bits whose scale is `top` to nearest."""
    first = top + 127  # the exponent field of the top binade
    if is_fast(grid, first):
        highest = highest_bits(grid, first)
        if grid[LOOP] == CHANGES_LOOP:
            tail, shift, change1, delta1, change2, delta2 = change_bits(grid, first)
            _run_changes(x, out, highest, i4(passing), tail, shift, change1, delta1, change2, delta2)
        else:
            w0, w1, w2, w3 = i4(grid[PACKED]), i4(grid[PACKED + 1]), i4(grid[PACKED + 2]), i4(grid[PACKED + 3])
            _run_packed(x, out, highest, i4(passing), i4(first - grid[BINADES]), w0, w1, w2, w3)
        return
    if has_steps_of_float32(grid, first):
        _run_bits(x, out, highest_bits(grid, first), i4(passing), i4(24 - grid[PROFILE]))
        return
    for i in range(x.size):
        a = i8(x[i] & i4(MAGNITUDE4))
        y = a if a > passing else round_magnitude(a, top, grid, 23, 127, NEAREST, False, i8(0), False)
        out[i] = i4(y) | (x[i] & i4(SIGN4))


@njit(nogil=True)
def round8(x, out, top, grid, passing):
    """Round a run of float64 bits whose scale is `top` to nearest."""
    for i in range(x.size):
        a = x[i] & i8(MAGNITUDE8)
        y = a if a > passing else round_magnitude(a, top, grid, 52, 1023, NEAREST, False, i8(0), False)
        out[i] = y | (x[i] & i8(SIGN8))


round_run = by_width(round4, round8)
