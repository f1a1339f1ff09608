"""What the formats of this package share: `round` and `encode` of arrays and tensors alike, whatever the format is."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from formats.arrays import is_tensor, to_float
from formats.codes import Codes, code_type
from formats.mode import NEAREST, ModeChoice, check_mode
from formats.rounding import Rounding
from formats.scale import Granularity, Scale


class Emulated(ABC):
    """A format that rounds float32 and float64 arrays: `round` and `encode` for every kind of input, by `round_array` and `encode_array`.

    Every subclass is a frozen dataclass.
    """

    if TYPE_CHECKING:
        # Only declared: at run time a dataclass would take an inherited property for the default of its field.
        @property
        def name(self) -> str: ...

        @property
        def bits(self) -> int: ...

        @property
        def scale(self) -> Scale: ...

    @property
    def granularity(self) -> Granularity:
        """What shares one scale: tensor, channel or block."""
        return self.scale.per

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes: all fields but the name."""
        content = asdict(cast(Any, self))
        del content["name"]
        return fingerprint(content)

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
    def encode_array(self, x: NDArray[Any], *, top: Any, mode: ModeChoice, out: NDArray[Any] | None = None) -> Codes:
        """`encode` of a float32 or float64 array, in a mode that `check_mode` has made, into an `out` that fits."""

    @abstractmethod
    def decode(self, codes: ArrayLike, top: Any) -> NDArray[np.float32]:
        """The float32 values of codes (whole numbers of any shape) at a scale as `encode` gave it."""

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
        """The value of the format that every element of x rounds to, by default the nearest (docs/formats.md section 3).

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
            return round_tensor(self, x, top=top, mode=mode, out=out, keep_infinities=keep_infinities)
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
        out: NDArray[Any] | None = None,
    ) -> Codes:
        """The code of the value that every element of x rounds to, with the scale that was used.

        Arguments as for `round`. Codes are uint8, uint16 above 8 bits, uint32 above 16, of x's shape; the format's own docstring says
        which. out: an array of that type and shape to put them into; may share memory with x.

        Raises ValueError on NaN where the format has no code for it (`out` may then be written in part), for an `out` that does not fit,
        and all that `round` raises.
        """
        array = to_float(x)
        mode = check_mode(rounding, seed, stream, previous, array.shape)
        check_out(out, array.shape, code_type(self.bits))
        return self.encode_array(array, top=top, mode=mode, out=out)


def fingerprint(content: Any) -> str:
    """A digest of numbers, strings, lists and dictionaries, the same wherever they are."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_out(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """ValueError unless `out` is None or a writeable array of this shape and dtype."""
    if out is None:
        return
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype or not out.flags.writeable:
        given = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else repr(type(out))
        state = "read-only " if isinstance(out, np.ndarray) and not out.flags.writeable else ""
        raise ValueError(f"out is {state}{given}; a writeable array of {np.dtype(dtype)} and shape {shape} is needed")


def with_specials(x: NDArray[Any], values: NDArray[Any], keep_infinities: bool) -> NDArray[Any]:
    """The values, with x's NaN and, where they are kept, x's infinities in their places."""
    return np.where(np.isnan(x) | np.isinf(x) if keep_infinities else np.isnan(x), x, values)


def put(result: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    """The result in `out` where there is one."""
    if out is None:
        return result
    out[...] = result
    return out
