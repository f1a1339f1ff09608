"""What the formats of this package share: `round` and `encode` of arrays and tensors alike, whatever the format is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from formats.arrays import is_tensor, to_float
from formats.codes import Codes
from formats.mode import NEAREST, ModeChoice, check_mode
from formats.rounding import Rounding


class Emulated(ABC):
    """A format that rounds float32 and float64 arrays: `round` and `encode` for every kind of input, by `round_array` and `encode_array`."""

    @abstractmethod
    def round_array(
        self,
        x: NDArray[Any],
        *,
        top: Any = None,
        mode: ModeChoice = NEAREST,
        out: NDArray[Any] | None = None,
        keep_infinities: bool = False,
    ) -> NDArray[Any]:
        """`round` of a float32 or float64 array, in a mode that `check_mode` has made."""

    @abstractmethod
    def encode_array(self, x: NDArray[Any], *, top: Any, mode: ModeChoice) -> Codes:
        """`encode` of a float32 or float64 array, in a mode that `check_mode` has made."""

    def round(
        self,
        x: Any,
        /,
        *,
        top: Any = None,
        rounding: Rounding | str = Rounding.NEAREST,
        seed: int | None = None,
        stream: int = 0,
        previous: Any = None,
        out: Any = None,
        keep_infinities: bool = False,
    ) -> Any:
        """The value of the format that every element of x rounds to, by default the nearest (formats.md section 3).

        x: numpy array or CPU torch tensor, any shape and stride; float32, float64 (rounded once), float16 or bfloat16.
        top: the scale; None where it is found from x. What else it may be, the format's own docstring says.
        rounding: a mode of `Rounding`. seed, stream: whole numbers below 2^64 that decide stochastic rounding (which needs a seed), with an
            element's place in row-major order and nothing else. previous: the rounded values of last time, of x's shape, for hysteresis.
        out: where to put the result, of its shape and dtype; may be x itself.
        keep_infinities: infinities stay instead of saturating (for attention masks).

        Returns float32, or float64 for float64 input, of the same kind and shape as x; for a tensor inside autograd, its own dtype, with
        the straight-through gradient. NaN stays NaN, also where it has no code. What becomes of ties, of magnitudes beyond the largest value
        and of the sign of zero, the format's own docstring says.

        Raises TypeError for other dtypes; ValueError for a `top` that the format cannot have, an `out` that does not fit, a mode that the
        format does not have, or one without what it needs.
        """
        if is_tensor(x):
            from formats.torch import round_tensor

            mode = check_mode(rounding, seed, stream, previous, tuple(x.shape))
            return round_tensor(cast(Any, self), x, top=top, mode=mode, out=out, keep_infinities=keep_infinities)
        array = to_float(x)
        mode = check_mode(rounding, seed, stream, previous, array.shape)
        return self.round_array(array, top=top, mode=mode, out=out, keep_infinities=keep_infinities)

    def encode(
        self,
        x: Any,
        /,
        *,
        top: Any = None,
        rounding: Rounding | str = Rounding.NEAREST,
        seed: int | None = None,
        stream: int = 0,
        previous: Any = None,
    ) -> Codes:
        """The code of the value that every element of x rounds to, with the scale that was used.

        Arguments as for `round`. Codes are uint8, uint16 above 8 bits, uint32 above 16, of x's shape; the format's own docstring says
        which. Raises ValueError on NaN where the format has no code for it, and all that `round` raises.
        """
        array = to_float(x)
        return self.encode_array(array, top=top, mode=check_mode(rounding, seed, stream, previous, array.shape))


def check_nearest(mode: ModeChoice, name: str) -> None:
    """ValueError unless the mode is to nearest."""
    if mode.rounding is not Rounding.NEAREST:
        raise ValueError(f"rounding {mode.rounding.value}: {name} rounds to nearest only")


def check_out(x: NDArray[Any], out: NDArray[Any] | None) -> None:
    """ValueError unless `out` is None or a writeable array of x's shape and dtype."""
    if out is None:
        return
    if not isinstance(out, np.ndarray) or out.shape != x.shape or out.dtype != x.dtype:
        given = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else repr(type(out))
        raise ValueError(f"out is {given}; an array of {x.dtype} and shape {x.shape} is needed")
    if not out.flags.writeable:
        raise ValueError("out is read-only")


def put(result: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    """The result in `out` where there is one."""
    if out is None:
        return result
    out[...] = result
    return out
