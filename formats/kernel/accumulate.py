"""The compiled loops of `formats.accumulate`: exact sums of float64 numbers, rounded once into an accumulator.

Every product of two decoded values is exact in float64 (24 + 24 significant bits at most, exponents from -298 to 256),
so the loops read decoded values. What remains is to round the *exact* sum of an accumulator and a product, or a chunk
of them, once.

Rounding to odd keeps a rounding in two steps from being a double rounding: of the two 53-bit numbers around a number
that is not one itself, take the odd one. No number of at most 52 significant bits lies between the two, so the result
compares with all values of a coarser grid and all midpoints between its neighbours exactly as the number did, and
rounds as it would have (S. Boldo, G. Melquiond, "Emulation of a FMA and correctly rounded
sums: proved algorithms using rounding to odd", IEEE Transactions on Computers 57(4), 2008). Accumulators keep 24 bits
or fewer.

- Two numbers: TwoSum (D. Knuth, The Art of Computer Programming 2, 4.2.2) gives the rounded sum and its exact error,
whose sign says where the
  odd neighbour is. Nothing overflows or falls below the normal float64 numbers in the range above.
- Many numbers whose sum may need more than 53 bits: a fixed-point accumulator (U. Kulisch) of 30-bit limbs that spans
all of that range.
"""

# mypy: ignore-errors
# Compiled by numba, whose types mypy does not know.

import math

import numpy as np
from numba import njit

from formats.kernel.caching import kept_njit

LIMB_BITS = 30
LIMB_MASK = (1 << LIMB_BITS) - 1
BASE = -14 * LIMB_BITS
"""Exponent of the lowest bit of a fixed-point accumulator: two empty limbs below 2^(-298 - 52), the last bit of the
smallest float64 added."""
LIMBS = 25
"""Limbs up to 2^330: 2^256, the largest product, times 2^31 terms, and the sign."""
MOST_TERMS = 1 << 30
"""Terms that a fixed-point accumulator takes: each adds less than 2^31 to an int64 limb."""


@njit(nogil=True)
def _odd_sum(x, y):
    """x + y rounded to odd."""
    total = x + y
    part = total - x
    error = (x - (total - part)) + (y - part)
    bits = np.float64(total).view(np.int64)
    # An infinite total has NaN for its error and stays.
    if (error > 0 or error < 0) and bits & 1 == 0:
        bits += 1 if (error > 0) == (total > 0) else -1
    return np.int64(bits).view(np.float64)


@njit(nogil=True)
def _add(limbs, x):
    """Add a float64 number to a fixed-point accumulator, without carries."""
    bits = np.float64(x).view(np.int64)
    field = (bits >> 52) & 2047
    if field == 0:  # zero, for no subnormal number is ever added
        return
    significand = (bits & ((1 << 52) - 1)) | (1 << 52)
    offset = field - 1075 - BASE
    limb, shift = offset // LIMB_BITS, offset % LIMB_BITS
    low, high = (significand & LIMB_MASK) << shift, (significand >> LIMB_BITS) << shift
    sign = -1 if bits < 0 else 1
    limbs[limb] += sign * (low & LIMB_MASK)
    limbs[limb + 1] += sign * ((low >> LIMB_BITS) + (high & LIMB_MASK))
    limbs[limb + 2] += sign * (high >> LIMB_BITS)


@njit(nogil=True)
def _carry(limbs):
    """Bring all limbs into 0 .. 2^30 - 1; returns what is left above them, -1 for a negative number."""
    carry = np.int64(0)
    for i in range(LIMBS):
        limbs[i] += carry
        carry = limbs[i] >> LIMB_BITS
        limbs[i] &= LIMB_MASK
    return carry


@njit(nogil=True)
def _head(limbs):
    """The accumulator as (significand, exponent), rounded to odd at 60 bits; it is left empty."""
    sign = np.int64(1)
    if _carry(limbs) < 0:
        sign = np.int64(-1)
        limbs[LIMBS - 1] -= LIMB_MASK + 1  # the borrow from above, so that the limbs hold the negative number itself
        for i in range(LIMBS):
            limbs[i] = -limbs[i]
        _carry(limbs)
    first = LIMBS - 1
    while first > 0 and limbs[first] == 0:
        first -= 1
    if first == 0:
        return np.int64(0), np.int64(0)
    drop = np.int64(0)  # bits of the first limb; as many go from the two behind it, for 60 to stay
    while limbs[first] >> drop:
        drop += 1
    behind = (limbs[first - 1] << LIMB_BITS) | limbs[first - 2]
    significand = (limbs[first] << (2 * LIMB_BITS - drop)) | (behind >> drop)
    rest = behind & ((np.int64(1) << drop) - 1)
    for i in range(first - 2):
        rest |= limbs[i]
    limbs[:] = 0
    return sign * (significand | (rest != 0)), BASE + LIMB_BITS * (first - 2) + drop


@njit(nogil=True)
def _odd_head(limbs):
    """The accumulator rounded to odd at 53 bits, as float64; it is left empty."""
    significand, exponent = _head(limbs)
    magnitude = abs(significand)
    kept = (magnitude >> 7) | (magnitude & 127 != 0)
    return math.ldexp(float(kept if significand >= 0 else -kept), exponent + 7)


@njit(nogil=True)
def _round_into(exact, out, top, largest, powers):
    """Round each of `exact` (rounded to odd) to float32, or to the format with these `powers`: to nearest, by
    `formats.rounding.rounded`.

    Adding 2^52 times the local step makes the processor round to a multiple of that step, to nearest with ties to the
    even multiple; taking it away again is exact. powers[d] is that number for binade d, the last one for all that lies
    below the smallest value.
    """
    if powers.size == 0:
        for j in range(out.size):
            out[j] = np.float64(np.float32(exact[j]))
        return
    for j in range(out.size):
        magnitude = min(abs(exact[j]), largest)
        exponent = ((np.float64(magnitude).view(np.int64) >> 52) & 2047) - 1023
        power = powers[min(top - exponent, powers.size - 1)]
        out[j] = math.copysign((magnitude + power) - power, exact[j])


@kept_njit()
def short_rows(a, b, chunk, top, largest, powers, out):
    """out = a @ b, where the sum of a chunk of products is exact in float64.

    a: float64 (m, k), b: float64 (k, n), both in C order; out: float32 (m, n). top, largest, powers: as in
    `_round_into`.
    """
    accumulator, exact = np.empty(out.shape[1]), np.empty(out.shape[1])
    for i in range(out.shape[0]):
        accumulator[:] = 0.0
        for first in range(0, a.shape[1], chunk):
            exact[:] = 0.0
            for t in range(first, min(first + chunk, a.shape[1])):
                factor, row = a[i, t], b[t]
                for j in range(exact.size):
                    exact[j] += factor * row[j]
            for j in range(exact.size):
                exact[j] = _odd_sum(accumulator[j], exact[j])
            _round_into(exact, accumulator, top, largest, powers)
        for j in range(accumulator.size):
            out[i, j] = accumulator[j] + 0.0  # no -0


@kept_njit()
def long_rows(a, columns, chunk, top, largest, powers, out):
    """`short_rows` for any values: chunks are summed in fixed point. columns: b transposed, float64 (n, k) in C
    order."""
    accumulator, exact = np.empty(out.shape[1]), np.empty(out.shape[1])
    limbs = np.zeros(LIMBS, np.int64)
    for i in range(out.shape[0]):
        accumulator[:] = 0.0
        for first in range(0, a.shape[1], chunk):
            last = min(first + chunk, a.shape[1])
            for j in range(exact.size):
                if math.isinf(accumulator[j]):
                    exact[j] = accumulator[j]
                    continue
                _add(limbs, accumulator[j])
                for t in range(first, last):
                    _add(limbs, a[i, t] * columns[j, t])
                exact[j] = _odd_head(limbs)
            _round_into(exact, accumulator, top, largest, powers)
        for j in range(accumulator.size):
            out[i, j] = accumulator[j] + 0.0  # no -0


@kept_njit()
def exact_rows(a, columns, to_odd, out):
    """out (float64) = a @ b, each sum exact and rounded once: to odd at 53 bits, or to the nearest float64."""
    limbs = np.zeros(LIMBS, np.int64)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for t in range(a.shape[1]):
                _add(limbs, a[i, t] * columns[j, t])
            if to_odd:
                out[i, j] = _odd_head(limbs)
            else:
                significand, exponent = _head(limbs)
                out[i, j] = math.ldexp(float(significand), exponent)
