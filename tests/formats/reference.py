"""Rounding by definition, in exact integers, written apart from the kernel.

A format's values are listed, the nearest is looked up, and only a tie asks for the local step of the binade that the
magnitude lies in. Everything is a whole number of units of 2^-UNIT, so nothing is ever approximate.
"""

import bisect
import math
from fractions import Fraction

from formats import Rounding

UNIT = 1100


def units(x: float) -> int:
    """A finite float as a number of units, exactly."""
    numerator, denominator = abs(x).as_integer_ratio()
    return (numerator << UNIT) // denominator


def binade(magnitude: int) -> int:
    """floor(log2) of a positive number of units, as an exponent of 2."""
    return magnitude.bit_length() - 1 - UNIT


def to_float32(number: Fraction) -> float:
    """A nonnegative fraction rounded once to float32, to nearest even; infinity beyond."""
    if not number:
        return 0.0
    exponent = number.numerator.bit_length() - number.denominator.bit_length()
    exponent -= number < Fraction(2) ** exponent
    step = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(number / step) * step  # round() of a Fraction takes ties to even
    return float(rounded) if rounded < 2**128 else math.inf


class Reference:
    """The magnitudes of a profile at a top exponent, in units, and rounding to them."""

    def __init__(self, profile: tuple[int, ...], top: int):
        self.profile, self.top = profile, top
        values = {0}
        for d, p in enumerate(profile):
            for j in range(2 ** (p - 1)):
                exponent = UNIT + top - d - (p - 1)
                assert exponent >= 0
                values.add((2 ** (p - 1) + j) << exponent)
        self.values = sorted(values)

    def step(self, magnitude: int) -> int:
        """The local step at a magnitude: its binade's, or the smallest value below all binades."""
        d = self.top - binade(magnitude)
        if d >= len(self.profile):
            return self.values[1]
        return 1 << (UNIT + self.top - d - (self.profile[d] - 1))

    def nearest(self, magnitude: int) -> int:
        """The value that a magnitude rounds to."""
        above = bisect.bisect_left(self.values, magnitude)
        if above == len(self.values):
            return self.values[-1]
        if self.values[above] == magnitude:
            return magnitude
        low, high = self.values[above - 1], self.values[above]
        if magnitude - low != high - magnitude:
            return low if magnitude - low < high - magnitude else high
        step = self.step(magnitude)
        even = [value for value in (low, high) if value % (2 * step) == 0]
        assert len(even) == 1
        return even[0]

    def round(self, x: float) -> float:
        """What the format makes of a float: NaN stays, infinities saturate, the sign is kept."""
        if math.isnan(x):
            return x
        value = self.values[-1] if math.isinf(x) else self.nearest(units(x))
        return math.copysign(value / (1 << UNIT), x)

    def hard_inputs(self) -> list[int]:
        """Every value and every midpoint of neighbours, and what lies beyond the largest."""
        middles = [(low + high) // 2 for low, high in zip(self.values, self.values[1:], strict=False)]
        step = self.step(self.values[-1])
        return sorted(
            {*self.values, *middles, self.values[-1] + step // 2, self.values[-1] + step, 4 * self.values[-1]}
        )


def choose(grid: list[Fraction], x: Fraction, mode: Rounding, negative: bool, word: int, above: bool) -> Fraction:
    """What x becomes of ascending values, all of both signs, in a mode other than to nearest.

    negative: whether x counts as negative (which zero may). word: its random number. above: whether the previous value
    is above x.
    """
    i = bisect.bisect_left(grid, x)
    if i == len(grid):
        return grid[-1]
    if i == 0 or grid[i] == x:
        return grid[i]
    low, high = grid[i - 1], grid[i]
    near, far = (high, low) if negative else (low, high)
    if mode is Rounding.STOCHASTIC:
        return far if word < (2**32 * abs(x - near)) // (high - low) else near
    if mode is Rounding.TOWARD_ZERO:
        return far if abs(low) == abs(high) else min(low, high, key=abs)
    up = {Rounding.UP: True, Rounding.DOWN: False, Rounding.HYSTERESIS: above}[mode]
    return high if up else low
