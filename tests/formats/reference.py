"""Rounding by definition, in exact integers: a format's values are listed here, apart from the package, and the rule of
`formats.rounding` chooses among them.

Everything is a whole number of units of 2^-UNIT, so nothing is ever approximate.
"""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np

from formats import Rounding
from formats.rounding import rounded

UNIT = 1100
MIRRORED = {Rounding.UP: Rounding.DOWN, Rounding.DOWN: Rounding.UP}
E2M1 = [Fraction(value) for value in (0, 0.5, 1, 1.5, 2, 3, 4, 6)]
E4M3 = [Fraction(float(value)) for value in np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)]
"""The nonnegative values of two standards, by their codes."""


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
    nearest = round(number / step) * step  # round() of a Fraction takes ties to even
    return float(nearest) if nearest < 2**128 else math.inf


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

    def round(self, x: float, mode: Rounding = Rounding.NEAREST, word: int = 0, above: bool = False) -> float:
        """What the format makes of a float: NaN stays, infinities saturate, the sign is kept. word, above: what the
        mode needs (`formats.rounding.rounded`)."""
        if math.isnan(x):
            return x
        magnitude = self.values[-1] if math.isinf(x) else units(x)
        if math.copysign(1, x) < 0:  # the mirror image of what |x| becomes in the mirrored mode
            mode, above = MIRRORED.get(mode, mode), not above
        return math.copysign(rounded(magnitude, self.values, mode, word=word, above=above) / (1 << UNIT), x)

    def hard_inputs(self) -> list[int]:
        """Every value and every midpoint of neighbours, and what lies beyond the largest."""
        middles = [(low + high) // 2 for low, high in zip(self.values, self.values[1:], strict=False)]
        step = self.step(self.values[-1])
        return sorted(
            {*self.values, *middles, self.values[-1] + step // 2, self.values[-1] + step, 4 * self.values[-1]}
        )
