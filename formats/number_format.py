"""What the formats of this package share: `round` and `encode` of arrays and tensors alike, whatever the format is."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from formats.layout import is_tensor, to_float
from formats.rounding import NEAREST, ModeChoice, Rounding
from formats.scale import Granularity, Scale
from numeric_formats.checks import one_of


class Emulated(ABC):
    """A format that rounds float32 and float64 arrays: `round` and `encode` for every kind of input, by `round_array`
    and `encode_array`.

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
        """A stable fingerprint of everything that decides how this format rounds and encodes: all fields but the
        name."""
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
        """The value of the format that every element of x rounds to, by default the nearest
        (docs/definitions/formats.md section 3).

        x: numpy array or CPU torch tensor, any shape and stride; float32, float64 (rounded once), float16 or bfloat16.
        top: the scale; None where it is found from x. What else it may be, the format's own docstring says.
        rounding: a mode of `Rounding`. seed, stream: whole numbers below 2^64 that decide stochastic rounding (which
        needs a seed), with an
            element's place in row-major order and nothing else. previous: the rounded values of last time, of x's
            shape, for hysteresis.
        out: where to put the result, of its shape and dtype; may be x itself.
        keep_infinities: infinities stay instead of saturating (for attention masks).

        Returns float32, or float64 for float64 input, of the same kind and shape as x; for a tensor inside autograd,
        its own dtype, with the straight-through gradient. NaN stays NaN, also where it has no code. What becomes of
        ties, of magnitudes beyond the largest value and of the sign of zero, the format's own docstring says.

        Raises TypeError for other dtypes; ValueError for a `top` that the format cannot have, an `out` that does not
        fit, a mode that the format does not have, or one without what it needs.
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

        Arguments as for `round`. Codes are uint8, uint16 above 8 bits, uint32 above 16, of x's shape; the format's own
        docstring says which. out: an array of that type and shape to put them into; may share memory with x.

        Raises ValueError on NaN where the format has no code for it (`out` may then be written in part), for an `out`
        that does not fit, and all that `round` raises.
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


@dataclass(frozen=True, eq=False)
class Codes:
    """What `encode` returns.

    codes: unsigned integers of the input's shape, as wide as the format needs. top: the scale, as the format's
    `find_top` gives it: int64 top
        exponents of the group shape, float32 scales, or NVFP4Scales. format: what encoded them.

    `decode` gives float32 of the shape of the codes. Source: docs/definitions/formats.md section 3.

    >>> import formats, numpy as np
    >>> q = formats.get("FP134").encode(np.float32([1.0, -0.3]))
    >>> q.codes, int(q.top), q.decode()
    (array([112, 211], dtype=uint8), 0, array([ 1.       , -0.296875], dtype=float32))
    """

    codes: NDArray[Any]
    top: Any
    format: Emulated

    def decode(self) -> NDArray[np.float32]:
        """The float32 values that the codes stand for; equal to `round` of the input as numbers."""
        return self.format.decode(self.codes, self.top)

    def pack(self) -> NDArray[np.uint8]:
        """The codes as a dense stream of bits: uint8, ceil(count * bits / 8) of them.

        Code number i, in row-major order, is bits i * bits to (i + 1) * bits - 1 of the stream, its lowest bit first;
        bit k of the stream is bit k % 8 of byte k // 8. What is left of the last byte is 0.
        """
        bits = self.format.bits
        flat = np.ascontiguousarray(self.codes).reshape(-1, 1)
        single = (flat >> np.arange(bits, dtype=flat.dtype)).astype(np.uint8) & 1
        return np.packbits(single.reshape(-1), bitorder="little")


def unpack(packed: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """The codes that `Codes.pack` packed: uint8 (uint16 above 8 bits) of this shape.

    Raises ValueError where the stream does not have the length that the shape needs.

    packed: uint8, one-dimensional. bits: the width of a code. Source: the order of bits is described in `Codes.pack`.

    >>> import formats, numpy as np
    >>> q = formats.get("INT4").encode(np.float32([1.0, -0.3, 0.5]))
    >>> formats.unpack(q.pack(), 4, (3,)).tolist() == q.codes.tolist()
    True
    """
    count = math.prod(shape)
    needed = -(-count * bits // 8)
    stream = np.asarray(packed)
    if stream.dtype != np.uint8 or stream.shape != (needed,):
        raise ValueError(
            f"{stream.dtype} of shape {stream.shape} was given; {count} codes of {bits} bits are {needed} uint8"
        )
    single = np.unpackbits(stream, count=count * bits, bitorder="little").reshape(count, bits)
    weights: NDArray[Any] = (1 << np.arange(bits)).astype(code_type(bits))
    return (single @ weights).reshape(shape)


@runtime_checkable
class Format(Protocol):
    """All that ranking and training ask of a number format; any object with these can stand for one.

    name: what tables print. digest: a string that changes whenever the rounding does. round: an array or tensor in, one
    of the same shape and kind out.

    Raises: `round` TypeError for dtypes it does not take. Source: docs/definitions/formats.md section 3; every format
    of this package has this interface.

    >>> class Signs:
    ...     name, digest = "signs", "signs, version 1"
    ...
    ...     def round(self, x):
    ...         return np.sign(x)
    >>> import numpy as np
    >>> import formats
    >>> isinstance(Signs(), formats.Format), formats.get(Signs()).name
    (True, 'signs')
    """

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def round(self, x: Any, /) -> Any: ...


WORD = 1 << 64


def check_mode(
    rounding: Rounding | str, seed: int | None, stream: int, previous: Any, shape: tuple[int, ...]
) -> ModeChoice:
    """The mode that was asked for, for an array of this shape.

    Raises ValueError for an unknown mode, for stochastic rounding without a seed, for hysteresis without previous
    values of the shape, and for a seed, stream or previous values that the mode does not use.
    """
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
