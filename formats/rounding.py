"""Rounding modes, and the rule of rounding for one number, to which all fast versions are held."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeVar

from numpy.typing import NDArray

RANDOM_BITS = 32
"""Of the word that decides stochastic rounding."""
Exact = TypeVar("Exact", int, Fraction)
"""Numbers that the rule is for: fractions, or whole numbers of one unit."""


class Rounding(StrEnum):
    """Which of a number's two neighbours in a format it becomes.

    Names are those of IEEE 754-2019 (roundTiesToEven, roundTiesToAway, roundTowardZero, roundTowardPositive,
    roundTowardNegative), then stochastic (needs a seed) and hysteresis (needs the previous rounded values).
    `formats.rounding.rounded` says in Python what each of them means.

    Raises:
        ValueError: where a format's `round` is asked for another name, or for a mode without what it needs.

    Source:
        docs/definitions/formats.md section 3.

    >>> import formats, numpy as np
    >>> x = np.float32([1.0, 0.4])
    >>> for mode in (formats.Rounding.NEAREST, "up", "toward-zero"):
    ...     print(formats.get("INT3").round(x, top=0, rounding=mode))
    [1.  0.5]
    [1.  0.5]
    [1. 0.]
    """

    NEAREST = "nearest"
    NEAREST_AWAY = "nearest-away"
    TOWARD_ZERO = "toward-zero"
    UP = "up"
    DOWN = "down"
    STOCHASTIC = "stochastic"
    HYSTERESIS = "hysteresis"


@dataclass(frozen=True)
class ModeChoice:
    """A rounding mode with the seed and stream of stochastic rounding, or the previous values of hysteresis."""

    rounding: Rounding
    seed: int = 0
    stream: int = 0
    previous: NDArray[Any] | None = None


NEAREST = ModeChoice(Rounding.NEAREST)


def rounded(
    x: Exact,
    values: Sequence[Exact],
    mode: Rounding,
    *,
    negative: bool | None = None,
    word: int = 0,
    above: bool = False,
) -> Exact:
    """What one number becomes: the rule of rounding, in exact arithmetic.

    A value stays. What lies beyond the outermost values becomes the outermost. Anything else becomes one of its two
    neighbours, by `between`.

    Args:
        x: the number.
        values: all values of the format, ascending, of both signs.
        mode: any of `Rounding`.
        negative: whether x counts as negative; by default whether it is. (Codebooks without zero round -0 as negative.)
        word: for stochastic rounding, the number's random word of `RANDOM_BITS` bits.
        above: for hysteresis, whether the previous value lies above x.

    Source:
        docs/definitions/formats.md section 3.

    >>> values = [Fraction(number) for number in (-1, 0, 1, 2)]
    >>> [str(rounded(Fraction(3, 2), values, mode)) for mode in (Rounding.NEAREST, Rounding.DOWN, Rounding.STOCHASTIC)]
    ['2', '1', '2']
    """
    i = bisect_left(values, x)
    if i == len(values):
        return values[-1]
    if i == 0 or values[i] == x:
        return values[i]
    return between(
        x, values[i - 1], values[i], mode, negative=x < 0 if negative is None else negative, word=word, above=above
    )


def between(x: Exact, low: Exact, high: Exact, mode: Rounding, *, negative: bool, word: int, above: bool) -> Exact:
    """Which of its neighbours low < x < high a number becomes; arguments as for `rounded`.

    Between two values of a profile the local step is their distance, so the even multiple of it is one of them.
    Codebooks have another rule for what is nearest (`CodebookFormat`), and this one for all other modes.
    """
    near, far = (high, low) if negative else (low, high)  # as seen from zero
    if mode is Rounding.NEAREST or mode is Rounding.NEAREST_AWAY:
        if x - low != high - x:
            return low if x - low < high - x else high
        if mode is Rounding.NEAREST_AWAY:
            return far
        return low if low % (2 * (high - low)) == 0 else high
    if mode is Rounding.TOWARD_ZERO:
        # Where zero is no value, the neighbours may lie on both sides of it, alike or not.
        return far if abs(low) == abs(high) else min(low, high, key=abs)
    if mode is Rounding.STOCHASTIC:
        return far if word < abs(x - near) * 2**RANDOM_BITS // (high - low) else near
    up = {Rounding.UP: True, Rounding.DOWN: False, Rounding.HYSTERESIS: above}[mode]
    return high if up else low
