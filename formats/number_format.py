"""What a number format is: the interface, what all kinds of this package share, and the codes that they make."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.checks import check_codes, check_mode, check_out, code_type, mode_arguments
from formats.layout import clash, is_tensor, to_float
from formats.packing import pack
from formats.rounding import NEAREST, ModeChoice, Rounding
from formats.scale import Granularity, Scale


@runtime_checkable
class Format(Protocol):
    """All that ranking and training ask of a number format; any object with these can stand for one.

    name: what tables print. digest: a string that changes whenever the rounding does. round: an array or tensor in, one
    of the same shape and kind out.

    Raises:
        TypeError: by `round`, for dtypes it does not take.

    Source:
        docs/definitions/formats.md section 3; every format of this package has this interface.

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


def check_rounds(format: Format, rounding: Rounding, sample: Any) -> None:
    """ValueError where a format cannot round a sample, an array or tensor, in a mode; all can to nearest."""
    if rounding is Rounding.NEAREST:
        return
    try:
        format.round(sample, **mode_arguments(rounding, 0, 0, sample))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{format.name} cannot round by {rounding.value} ({error}); use nearest or another format"
        ) from None


class NumberFormat(ABC):
    """A format of this package: `round`, `encode` and `decode` of every kind of input, whatever the format is.

    What is the same for all stands here: the check of what was given, `out` and what it may share memory with, the
    scale, NaN and infinities, codes. A kind is a frozen dataclass that adds its values and its rule: `find_top`,
    `_check_top`, `_rounded`, `_codes` and `_decode`; or, where compiled code does more at once, `_round` and `_encode`.
    """

    if TYPE_CHECKING:
        # Only declared: at run time a dataclass would take an inherited property for the default of its field.
        @property
        def name(self) -> str: ...

        @property
        def bits(self) -> int: ...

        @property
        def scale(self) -> Scale: ...

    _plain_top: ClassVar[Any] = 0
    """The scale that `decode` takes where none is given."""

    @property
    def granularity(self) -> Granularity:
        """What shares one scale: tensor, channel or block."""
        return self.scale.per

    @property
    def on_every_device(self) -> bool:
        """Whether tensors on other devices are rounded there, not as copies on the CPU."""
        return False

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes: all fields but the
        name."""
        content = asdict(cast(Any, self))
        del content["name"]
        if isinstance(scale := getattr(self, "scale", None), Scale):
            content["scale"] = scale.content
        return fingerprint(content)

    # What a caller asks for.

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
        """The value of the format that every element of x rounds to, by default the nearest.

        What becomes of ties, of magnitudes beyond the largest value and of the sign of zero, the format's own docstring
        says. NaN stays NaN, also where it has no code.

        Args:
            x: numpy array or CPU torch tensor, any shape and stride; float32, float64 (rounded once), float16 or
                bfloat16.
            top: the scale; None where it is found from x. What else it may be, the format's own docstring says.
            rounding: a mode of `Rounding`.
            seed: a whole number below 2^64 that decides stochastic rounding (which needs one), with `stream`, an
                element's place in row-major order and nothing else.
            stream: another such number.
            previous: the rounded values of last time, of x's shape, for hysteresis.
            out: where to put the result, of its shape and dtype; may be x itself.
            keep_infinities: infinities stay instead of saturating (for attention masks).

        Returns:
            float32, or float64 for float64 input, of the same kind and shape as x; for a tensor inside autograd, its
            own dtype, with the straight-through gradient.

        Raises:
            TypeError: for other dtypes.
            ValueError: for a `top` that the format cannot have, an `out` that does not fit, a mode that the format
                does not have, or one without what it needs.

        Source:
            docs/definitions/formats.md section 3.
        """
        if is_tensor(x):
            from formats.tensors import round_tensor

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

        Args:
            x: as for `round`, and so are top, rounding, seed, stream and previous.
            out: an array of the codes' type and x's shape to put them into; may share memory with x.

        Returns:
            codes of x's shape: uint8, uint16 above 8 bits, uint32 above 16; the format's own docstring says which.

        Raises:
            ValueError: for NaN where the format has no code for it (`out` may then be written in part), for an `out`
                that does not fit, and all that `round` raises.

        Source:
            docs/definitions/formats.md section 3.
        """
        array = to_float(x)
        mode = check_mode(rounding, seed, stream, previous, array.shape)
        check_out(out, array.shape, code_type(self.bits))
        return self.encode_array(array, top=top, mode=mode, out=out)

    def decode(self, codes: ArrayLike, top: Any = None, *, out: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """The float32 values of codes.

        Args:
            codes: whole numbers of any shape.
            top: the scale, as `encode` gave it; None for the plainest there is (0 or 1, or a format's own constant).
            out: float32 of the shape of the codes, where to put the values.

        Raises:
            TypeError: for codes that are not whole numbers.
            ValueError: for a code that stands for no value, and for a scale or an `out` that does not fit.

        Source:
            docs/definitions/formats.md section 3.
        """
        given = self._check_codes(codes)
        scale = self._check_top(self._plain_top if top is None else top, given.shape)
        if out is None:
            return self._decode(given, scale, None)
        check_out(out, given.shape, np.float32)
        return _put(self._decode(given, scale, None if clash(given, out) else out), out)

    @abstractmethod
    def find_top(self, x: Any) -> Any:
        """The scale that the format's rule picks for each group of x."""

    # The same for arrays, once for all kinds.

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
        if out is None:
            return self._round(x, top, mode, None, keep_infinities)
        check_out(out, x.shape, x.dtype)
        return _put(self._round(x, top, mode, None if clash(x, out) else out, keep_infinities), out)

    def encode_array(self, x: NDArray[Any], *, top: Any, mode: ModeChoice, out: NDArray[Any] | None = None) -> Codes:
        """`encode` of a float32 or float64 array, in a mode that `check_mode` has made, into an `out` that fits."""
        target = None if clash(x, out) else out
        if mode.rounding is not Rounding.NEAREST or self._encodes_values_only(x):
            # Values of a format are float32 numbers, which encode to nearest as themselves.
            top = self._found_or_given(x, top)
            x = _as_float32(self._round(x, top, mode, None, False))
        codes, scale = self._encode(x, top, target)
        return Codes(_put(codes, out), scale, self)

    # The rule of a kind. `top`, as the caller gave it; `scale`, found or checked; `out`, where x may be written over.

    @abstractmethod
    def _check_top(self, top: Any, shape: tuple[int, ...]) -> Any:
        """A given scale for an array of this shape, as `find_top` would give it; TypeError or ValueError for others."""

    def _found_or_given(self, x: NDArray[Any], top: Any) -> Any:
        return self.find_top(x) if top is None else self._check_top(top, x.shape)

    def _round(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        """The rounded array: `out` itself, or one that shares no memory with x."""
        with np.errstate(invalid="ignore"):  # signalling NaN
            values = self._rounded(x, self._found_or_given(x, top), mode).astype(x.dtype, copy=False)
            return np.where(np.isnan(x) | np.isinf(x) if keep_infinities else np.isnan(x), x, values)

    def _rounded(self, x: NDArray[Any], scale: Any, mode: ModeChoice) -> NDArray[Any]:
        """What each element becomes, infinite ones saturating; anything for NaN."""
        raise NotImplementedError

    def _encode(self, x: NDArray[Any], top: Any, out: NDArray[Any] | None) -> tuple[NDArray[Any], Any]:
        """The codes, to nearest, in `out` or an array of their type that shares no memory with x; and the scale."""
        scale = self._found_or_given(x, top)
        codes, nan = self._codes(x, scale), np.isnan(x)
        if nan.any():
            of_nan = self._codes_of_nan(x)
            if of_nan is None:
                raise self._no_code_for_nan
            codes = np.where(nan, of_nan, codes)
        return codes.astype(code_type(self.bits), copy=False), scale

    def _encodes_values_only(self, x: NDArray[Any]) -> bool:
        """Whether `_encode` needs x to be rounded before."""
        return False

    def _codes(self, x: NDArray[Any], scale: Any) -> NDArray[Any]:
        """The codes to nearest, as whole numbers of any type; anything for NaN."""
        raise NotImplementedError

    def _codes_of_nan(self, x: NDArray[Any]) -> Any:
        """The code of NaN, by the sign of x where that matters; None where there is none."""
        return None

    @property
    def _no_code_for_nan(self) -> ValueError:
        """The error for NaN to encode in a format without a code for it."""
        return ValueError(f"x holds NaN, for which {self.name} has no code")

    def _check_codes(self, codes: ArrayLike) -> NDArray[Any]:
        return check_codes(codes, self.bits, self.name)

    @abstractmethod
    def _decode(self, codes: NDArray[Any], scale: Any, out: NDArray[Any] | None) -> NDArray[Any]:
        """The float32 values of codes that fit the format's width: `out` itself, or a new array."""

    def _no_value(self, codes: NDArray[Any]) -> ValueError:
        """The error for codes that stand for nothing."""
        return ValueError(f"code {int(codes.flat[0]):#04x} stands for no value of {self.name}")


def fingerprint(content: Any) -> str:
    """A digest of numbers, strings, lists and dictionaries, the same wherever they are."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _as_float32(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype == np.float32:
        return values
    with np.errstate(invalid="ignore"):  # signalling NaN
        return values.astype(np.float32)


def _put(result: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    """The result in `out` where there is one."""
    if out is None or result is out:
        return result
    out[...] = result
    return out


@dataclass(frozen=True, eq=False)
class Codes:
    """What `encode` returns.

    Args:
        codes: unsigned integers of the input's shape, as wide as the format needs.
        top: the scale, as the format's `find_top` gives it: int64 top exponents of the group shape, float32 scales, or
            NVFP4Scales.
        format: what encoded them.

    Source:
        docs/definitions/formats.md section 3.

    >>> import formats, numpy as np
    >>> q = formats.get("FP134").encode(np.float32([1.0, -0.3]))
    >>> q.codes, int(q.top), q.decode()
    (array([112, 211], dtype=uint8), 0, array([ 1.       , -0.296875], dtype=float32))
    """

    codes: NDArray[Any]
    top: Any
    format: NumberFormat

    def decode(self) -> NDArray[np.float32]:
        """The float32 values that the codes stand for; equal to `round` of the input as numbers."""
        return self.format.decode(self.codes, self.top)

    def pack(self) -> NDArray[np.uint8]:
        """The codes as a dense stream of bits: uint8, ceil(count * bits / 8) of them.

        Code number i, in row-major order, is bits i * bits to (i + 1) * bits - 1 of the stream, its lowest bit first;
        bit k of the stream is bit k % 8 of byte k // 8. What is left of the last byte is 0.
        """
        return pack(self.codes, self.format.bits)
