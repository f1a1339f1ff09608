"""What a caller gives beside the numbers, checked: a rounding mode, an array for results, codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from formats.layout import to_float
from formats.rounding import NEAREST, ModeChoice, Rounding
from numeric_formats.checks import one_of

WORD = 1 << 64


def check_mode(
    rounding: Rounding | str, seed: int | None, stream: int, previous: Any, shape: tuple[int, ...]
) -> ModeChoice:
    """The mode that was asked for, for an array of this shape.

    Raises ValueError for an unknown mode, for stochastic rounding without a seed, for hysteresis without previous
    values of the shape, and for a seed, stream or previous values that the mode does not use.
    """
    if rounding is Rounding.NEAREST and seed is None and previous is None and not stream:
        return NEAREST  # what follows takes longer than to round a small array
    mode = one_of("rounding", Rounding, rounding)
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


def mode_arguments(rounding: Rounding, seed: int, stream: int, previous: Any) -> dict[str, Any]:
    """What `Format.round` needs for a mode. A user's own format, which knows no modes, gets none for nearest."""
    if rounding is Rounding.STOCHASTIC:
        return {"rounding": rounding, "seed": seed, "stream": stream}
    if rounding is Rounding.HYSTERESIS and previous is not None:
        return {"rounding": rounding, "previous": previous}
    return {}


def check_out(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """ValueError unless `out` is None or a writeable array of this shape and dtype."""
    if out is None:
        return
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype or not out.flags.writeable:
        given = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else repr(type(out))
        state = "read-only " if isinstance(out, np.ndarray) and not out.flags.writeable else ""
        raise ValueError(f"out is {state}{given}; a writeable array of {np.dtype(dtype)} and shape {shape} is needed")


def check_codes(codes: ArrayLike, bits: int, name: str) -> NDArray[Any]:
    """codes as an array of whole numbers of `bits` bits; TypeError or ValueError where they are not."""
    given = np.asarray(codes)
    if given.dtype.kind not in "iu":
        raise TypeError(f"codes of {given.dtype} were given; whole numbers are needed")
    if given.size and (given.min() < 0 or given.max() >= 1 << bits):
        raise ValueError(f"codes from {given.min()} to {given.max()} were given; {name} has 0 to {(1 << bits) - 1}")
    return given


def code_type(bits: int) -> type[np.unsignedinteger[Any]]:
    """The unsigned type that holds codes of so many bits."""
    return np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
