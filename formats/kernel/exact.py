"""The loop that is always right: one magnitude, any mode, step by step in 64-bit integers.

For float64, for float32 where values are subnormal or close to overflow, and for profiles that the fast loops do not
fit.
"""

from numba import njit

from formats.kernel.bits import i8
from formats.kernel.grid import BINADES, LARGEST, PROFILE
from formats.rounding import Rounding

# Rounding modes as the loops know them.
NEAREST, NEAREST_AWAY, TOWARD_ZERO, UP, DOWN, STOCHASTIC, HYSTERESIS = range(7)
MODES = {mode: number for number, mode in enumerate(Rounding)}


@njit(nogil=True, inline="always")
def _upward(mode, multiple, rest, drop, negative, random, above):
    """Whether a magnitude of `multiple` steps and a rest > 0, of `drop` bits, goes to the next multiple: the rule
    `formats.rounding.between`.

    random: the element's 32-bit number. above: hysteresis' "the previous value is above x".
    """
    if mode == STOCHASTIC:
        return random < (rest >> (drop - 32) if drop > 32 else rest << (32 - drop))
    if mode == TOWARD_ZERO:
        return False
    if mode == UP:
        return not negative
    if mode == DOWN:
        return negative
    if mode == HYSTERESIS:
        return above != negative
    half = i8(1) << (drop - 1)
    return rest > half or (rest == half and (mode == NEAREST_AWAY or multiple & 1))


@njit(nogil=True, inline="always")
def _compose(multiple, exponent, fraction_bits, bias):
    """Magnitude bits of multiple * 2^exponent, which is a number of the floating type."""
    if multiple == 0:
        return i8(0)
    lead = i8(0)
    while multiple >> (lead + 1):
        lead += 1
    field = lead + exponent + bias
    if field <= 0:
        return multiple << (exponent + bias - 1 + fraction_bits)
    return (field << fraction_bits) + ((multiple << (fraction_bits - lead)) - (i8(1) << fraction_bits))


@njit(nogil=True)
def round_magnitude(a, top, grid, fraction_bits, bias, mode, negative, random, above):
    """Magnitude bits of what the finite or infinite magnitude with bits a becomes by `formats.rounding.rounded`, in
    64-bit integers."""
    field = a >> fraction_bits
    significand = a & ((i8(1) << fraction_bits) - 1)
    if field == 0:
        field = i8(1)
    else:
        significand |= i8(1) << fraction_bits
    if significand == 0:
        return i8(0)
    lead = i8(0)
    while significand >> (lead + 1):
        lead += 1
    unit = field - bias - fraction_bits  # the magnitude is significand * 2^unit
    top_unit = top - grid[PROFILE] + 1
    d = top - (lead + unit)
    if d < 0:
        return _compose(grid[LARGEST], top_unit, fraction_bits, bias)
    binades = grid[BINADES]
    # Below the smallest value the local step is that value.
    exponent = top - binades + 1 if d >= binades else top - d - grid[PROFILE + d] + 1
    drop = exponent - unit
    if drop <= 0:
        multiple, exponent = significand, unit
    else:
        kept = min(drop, 62)  # a 53-bit significand is gone long before
        multiple = significand >> kept
        rest = significand - (multiple << kept)
        if d == 0 and multiple >= grid[LARGEST]:
            multiple = grid[LARGEST]
        elif rest and drop > 62:
            # Less than 2^-9 steps: only the directed modes and hysteresis move it, and stochastic rounding where its 32
            # bits are left.
            shift = drop - 32
            chance = rest >> shift if shift < 63 else i8(0)
            directed = mode in (UP, DOWN, HYSTERESIS) and _upward(mode, multiple, rest, kept, negative, random, above)
            multiple += i8(directed or (mode == STOCHASTIC and random < chance))
        elif rest:
            multiple += i8(_upward(mode, multiple, rest, drop, negative, random, above))
    if d == 0 and drop <= 0:
        # A finer number than the format's: it may still lie beyond the largest.
        behind = exponent - top_unit
        scaled = multiple << behind if behind >= 0 else multiple >> -behind
        if scaled >= grid[LARGEST]:
            return _compose(grid[LARGEST], top_unit, fraction_bits, bias)
    return _compose(multiple, exponent, fraction_bits, bias)
