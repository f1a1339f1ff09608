"""Rounding modes, and a mode with what it needs."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray


class Rounding(StrEnum):
    """Which of a number's two neighbours in a format it becomes (docs/definitions/formats.md section 3).

    Names are those of IEEE 754-2019 (roundTiesToEven, roundTiesToAway, roundTowardZero, roundTowardPositive,
    roundTowardNegative), then stochastic (needs a seed) and hysteresis (needs the previous rounded values).

    Raises ValueError where a format's `round` is asked for another name, or for a mode without what it needs.

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
