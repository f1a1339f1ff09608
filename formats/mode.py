"""A caller's rounding mode, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.layout import to_float
from formats.rounding import Rounding

WORD = 1 << 64


@dataclass(frozen=True)
class ModeChoice:
    """A rounding mode with the seed and stream of stochastic rounding, or the previous values of hysteresis."""

    rounding: Rounding
    seed: int = 0
    stream: int = 0
    previous: NDArray[Any] | None = None


NEAREST = ModeChoice(Rounding.NEAREST)


def check_mode(
    rounding: Rounding | str, seed: int | None, stream: int, previous: Any, shape: tuple[int, ...]
) -> ModeChoice:
    """The mode that was asked for, for an array of this shape.

    Raises ValueError for an unknown mode, for stochastic rounding without a seed, for hysteresis without previous
    values of the shape, and for a seed, stream or previous values that the mode does not use.
    """
    try:
        mode = Rounding(rounding)
    except ValueError:
        raise ValueError(f"rounding {rounding!r}: allowed are {', '.join(Rounding)}") from None
    if mode is Rounding.STOCHASTIC:
        for name, value in (("seed", seed), ("stream", stream)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < WORD:
                raise ValueError(
                    f"stochastic rounding with {name} {value!r}: a whole number from 0 to 2^64 - 1 is needed"
                )
    elif seed is not None or stream:
        raise ValueError(f"a seed or stream was given; rounding {mode.value} uses none")
    if mode is Rounding.HYSTERESIS:
        if previous is None:
            raise ValueError("hysteresis rounding needs previous values; round to nearest the first time")
        before = to_float(previous)
        if before.shape != shape:
            raise ValueError(f"previous values of shape {before.shape} were given for an array of shape {shape}")
        return ModeChoice(mode, previous=before)
    if previous is not None:
        raise ValueError(f"previous values were given; rounding {mode.value} uses none")
    return ModeChoice(mode, int(seed or 0), int(stream))
