"""Rounding modes."""

from enum import StrEnum


class Rounding(StrEnum):
    """Which of a number's two neighbours in a format it becomes (formats.md section 3; hysteresis: training.md section 2).

    Names are those of IEEE 754-2019 (roundTiesToEven, roundTiesToAway, roundTowardZero, roundTowardPositive, roundTowardNegative), then
    stochastic (needs a seed) and hysteresis (needs the previous rounded values).
    """

    NEAREST = "nearest"
    NEAREST_AWAY = "nearest-away"
    TOWARD_ZERO = "toward-zero"
    UP = "up"
    DOWN = "down"
    STOCHASTIC = "stochastic"
    HYSTERESIS = "hysteresis"
