"""Standard formats outside the 498: a precision profile at a constant top exponent, and rules for special values.

formats/tables/standards.py has the standards themselves, and what is done where their implementations differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formats import profile as profiles
from formats.kinds.grid import Grid
from formats.number_format import NumberFormat
from formats.profile import Profile
from formats.rounding import ModeChoice, Rounding
from formats.scale import Scale
from formats.specials import NanCodes, Overflow
from formats.spelling import OutsideFamily
from numeric_formats.checks import one_of

MOST_BITS = 19
"""The width of the widest standard, TF32."""


@dataclass(frozen=True)
class StandardFormat(NumberFormat):
    """A precision profile at the constant top exponent `top`, with special values.

    `round` takes ties to the even multiple of the local step. Beyond the largest value `overflow` decides, with IEEE's
    meaning of beyond: what would round above the largest value were there no end. Negative values that round to zero
    give -0.0 where the format has it, else +0.0. Without a sign, negative values become 0, or NaN with
    overflow="standard"; E8M0, which has no zero either, makes zero and negative values NaN, positive ones below 2^-127
    that number, and those between 2^-127 and 2^-126 the latter, as ml_dtypes does. With overflow="standard" rounding is
    to nearest only. `top` of `round`, `encode` and `decode` is None or the format's own. Codes are the standard's bit
    patterns: uint8, uint16 above 8 bits, uint32 above 16; NaN gets the quiet NaN of its sign.
    Equal by content: formats that round and encode alike are equal, whatever they are called.

    Args:
        profile: significant bits of each binade, top first.
        bits: the width of a code, 2 to 19.
        top: the top exponent.
        largest: the largest magnitude as a multiple of the top binade's step (E4M3: 14, since 15 is NaN).
        infinities: whether the code after the largest magnitude is infinity.
        nan: which codes are NaN.
        negative_zero: whether -0 has a code; where it has none, results are +0.
        signed: whether negative values have codes.
        zero: whether zero has a code (E8M0 has none: zero and negative numbers become NaN).
        even_code_ties: in binades of one significant bit a tie goes to the even code instead of up (P3109).
        overflow: saturate (infinities too), or "standard": infinity where there is one, else NaN, else saturate, as
            ml_dtypes does.
        name: what tables print.

    Raises:
        ValueError: where the values are no float32 numbers or need more codes than there are.

    Source:
        docs/definitions/formats.md section 5.

    >>> import formats, numpy as np
    >>> e4m3 = formats.get("E4M3")
    >>> e4m3.round(np.float32([0.3, -1000])).tolist()
    [0.3125, -448.0]
    >>> e4m3.encode(np.float32([0.3, np.nan])).codes, e4m3.decode([0x7E])
    (array([ 42, 127], dtype=uint8), array([448.], dtype=float32))
    """

    profile: Profile
    bits: int
    top: int
    largest: int
    infinities: bool = False
    nan: NanCodes = NanCodes.NONE
    negative_zero: bool = True
    signed: bool = True
    zero: bool = True
    even_code_ties: bool = False
    overflow: Overflow = Overflow.SATURATE
    name: str = field(default="", compare=False)

    _plain_top: ClassVar[Any] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", profiles.check(self.profile))
        object.__setattr__(self, "nan", one_of("nan", NanCodes, self.nan))
        object.__setattr__(self, "overflow", one_of("overflow", Overflow, self.overflow))
        if not isinstance(self.bits, int) or not 2 <= self.bits <= MOST_BITS:
            raise ValueError(f"{self.bits!r} bits: 2 to {MOST_BITS} are allowed")
        low, high = profiles.top_range(self.profile)
        if not low <= self.top <= high:
            raise ValueError(
                f"top exponent {self.top} is outside {low} to {high}, where all values are float32 numbers"
            )
        lead = 1 << (self.profile[0] - 1)
        if not lead <= self.largest < 2 * lead:
            raise ValueError(
                f"largest {self.largest}: a top binade of {self.profile[0]} significant bits has {lead} to "
                f"{2 * lead - 1}"
            )
        if self.negative_zero and (not self.signed or not self.zero or self.nan is NanCodes.MINUS_ZERO):
            raise ValueError("minus zero needs a sign, a zero, and its code not to be NaN")
        if self.even_code_ties and not (self.zero and set(self.profile) == {1}):
            raise ValueError("even_code_ties is for formats that keep one significant bit everywhere, and have a zero")
        if self.nan is NanCodes.MINUS_ZERO and not self.signed:
            raise ValueError("without a sign there is no code of minus zero to be NaN")
        if self._highest_codes < (1 if self.nan in (NanCodes.IEEE, NanCodes.ONE) else 0):
            raise ValueError(f"{self._count} magnitudes and the special values do not fit {self.bits} bits")

    # What the format is.

    @property
    def family(self) -> OutsideFamily:
        """Standard."""
        return OutsideFamily.STANDARD

    @property
    def binades(self) -> int:
        """Number of binades that hold values."""
        return len(self.profile)

    @property
    def scale(self) -> Scale:
        """Per tensor; the top exponent is constant, so nothing is picked from data."""
        return Scale()

    @property
    def spare_codes(self) -> int:
        """Codes of each sign that stand for nothing, neither a value nor infinity or NaN; that of minus zero is not
        counted."""
        return 0 if self.nan in (NanCodes.IEEE, NanCodes.ONE) else self._highest_codes

    @property
    def top_range(self) -> tuple[int, int]:
        """Smallest and largest top exponent: both the constant one."""
        return self.top, self.top

    def with_overflow(self, overflow: Overflow | str) -> StandardFormat:
        """The same format with another rule for overflow; the name of one that does not saturate ends in
        "/standard"."""
        rule = one_of("overflow", Overflow, overflow)
        base = self.name.removesuffix("/standard")
        return replace(self, overflow=rule, name=base if rule is Overflow.SATURATE else f"{base}/standard")

    @property
    def _half(self) -> int:
        """Number of codes of one sign."""
        return 1 << (self.bits - int(self.signed))

    @cached_property
    def _count(self) -> int:
        """Number of magnitudes, zero included where there is one."""
        return self.grid.count - int(not self.zero)

    @property
    def _highest_codes(self) -> int:
        """Codes of each sign above the magnitudes and infinity."""
        return self._half - self._count - int(self.infinities)

    @cached_property
    def _nan_code(self) -> int | None:
        """The code that NaN of positive sign encodes to: the quiet one of IEEE's many."""
        if self.nan is NanCodes.NONE:
            return None
        if self.nan is NanCodes.IEEE:
            return self._count + (1 << (self.profile[0] - 2))
        return self._half if self.nan is NanCodes.MINUS_ZERO else self._half - 1

    def max(self, top: int | None = None) -> float:
        """The largest value; at another top exponent if given."""
        return float(np.ldexp(self.largest, self._at(top) - self.profile[0] + 1))

    def min_positive(self, top: int | None = None) -> float:
        """The smallest positive value; at another top exponent if given."""
        return float(np.ldexp(1.0, self._at(top) - self.binades + 1))

    def magnitudes(self, top: int | None = None) -> NDArray[np.float64]:
        """All finite magnitudes, ascending, exact, index i having code i: float64, one-dimensional; at another top
        exponent if given."""
        return np.ldexp(self._magnitudes, self._at(top))

    def _at(self, top: int | None) -> int:
        return self.top if top is None else top

    @property
    def _magnitudes(self) -> NDArray[np.float64]:
        """All magnitudes at T = 0."""
        return self.grid.magnitudes[0 if self.zero else 1 :]

    @cached_property
    def grid(self) -> Grid:
        """The magnitudes with zero and both signs, and the loops that round to them, which saturate and keep signs."""
        return Grid(self.profile, self.largest, self.scale, self.top_range, self.name)

    # Rounding.

    def find_top(self, x: Any) -> NDArray[np.int64]:
        """The constant top exponent, whatever x holds: an int64 array of shape ()."""
        return np.array(self.top, np.int64)

    def _check_top(self, top: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
        if top is not None and not (type(top) is int and top == self.top):
            given = np.asarray(top)
            if given.dtype.kind not in "iu":
                raise TypeError(f"top is {top!r}; a whole number or None is needed")
            if given.shape != () or given != self.top:
                raise ValueError(f"top {top!r} was given; {self.name} has the constant top exponent {self.top}")
        return self.find_top(None)

    def _round(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        nearest = mode.rounding is Rounding.NEAREST
        if not nearest and self._beyond is not None:
            raise ValueError(
                f'rounding {mode.rounding.value}: only to nearest has an overflow="standard"; '
                f"{self.name} would have to saturate"
            )
        if top is not None:
            self._check_top(top, x.shape)
        if not self._corrected:
            return self.grid.round(x, self.top, mode, out, keep_infinities)
        # Into memory of its own, since the corrections read x after it.
        y = self.grid.round(x, self.top, mode, None, keep_infinities)
        self._correct(x, y, keep_infinities, nearest)
        return y

    @property
    def _beyond(self) -> float | None:
        """What overflow="standard" makes of an overflow; None where it saturates too."""
        if self.overflow is Overflow.SATURATE:
            return None
        if self.infinities:
            return float("inf")
        return None if self.nan is NanCodes.NONE else float("nan")

    @cached_property
    def _corrected(self) -> bool:
        """Whether the grid's result, which saturates and keeps signs, is not yet the format's."""
        return self._beyond is not None or not self.negative_zero or self.even_code_ties

    def _correct(self, x: NDArray[Any], y: NDArray[Any], keep_infinities: bool, nearest: bool) -> None:
        """Turn y, the grid's result for x, into the format's, in place."""
        with np.errstate(invalid="ignore"):  # comparing with a signalling NaN is no error here
            if self.even_code_ties and nearest:
                self._take_even_codes(x, y)
            if self._beyond is not None:
                magnitude = np.abs(x)
                beyond = magnitude >= self._limit if self._limit_overflows else magnitude > self._limit
                if keep_infinities:
                    beyond &= ~np.isinf(x)
                y[beyond] = np.copysign(x.dtype.type(self._beyond), x[beyond])
            if not self.zero:
                smallest = self.min_positive()
                y[(x > 0) & (y == 0)] = smallest
                if nearest:  # or rather as ml_dtypes does it: see formats/tables/standards.py
                    y[(x > smallest) & (x < 2 * smallest)] = 2 * smallest
                y[x <= 0] = np.nan
            elif not self.signed:
                y[y < 0] = 0 if self.overflow is Overflow.SATURATE else np.nan
            if not self.negative_zero:
                np.add(y, 0, out=y)  # -0 + 0 is +0

    @property
    def _limit(self) -> float:
        """Half a step above the largest value: what lies beyond overflows."""
        return float(np.ldexp(self.largest + 0.5, self.top - self.profile[0] + 1))

    @property
    def _limit_overflows(self) -> bool:
        """Whether that tie goes up. In a standard with fraction bits an odd code is an odd multiple of the step."""
        return bool((self._count - 1 if self.even_code_ties else self.largest) & 1)

    def _take_even_codes(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Where the grid took a tie between two powers of two up, take it down if the code below is even."""
        mantissa, exponent = (np.asarray(part) for part in np.frexp(np.abs(x)))
        code = exponent - 1 - self.top + self.binades
        down = (mantissa == 0.75) & (code % 2 == 0) & (code >= 1) & (code < self._count)
        if down.any():
            y[down] = np.copysign(np.ldexp(x.dtype.type(1), exponent[down] - 1), x[down])

    # Codes.

    def _encodes_values_only(self, x: NDArray[Any]) -> bool:
        return True

    def _codes(self, x: NDArray[Any], scale: NDArray[np.int64]) -> NDArray[Any]:
        # Infinity is above all magnitudes: its index is their number, which is its code.
        relative = np.ldexp(np.where(np.isnan(x), 0, np.abs(x)).astype(np.float64), -self.top)
        codes = np.asarray(np.searchsorted(self._magnitudes, relative))
        return codes + np.signbit(x) * self._half if self.signed else codes

    def _codes_of_nan(self, x: NDArray[Any]) -> Any:
        if self._nan_code is None or not self.signed or self.nan is NanCodes.MINUS_ZERO:
            return self._nan_code
        return self._nan_code + np.signbit(x) * self._half

    def _decode(self, codes: NDArray[Any], scale: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        known, values = self._decoded
        if not known[codes].all():
            raise self._no_value(codes[~known[codes]])
        return np.asarray(values[codes])

    @cached_property
    def _decoded(self) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Of every code, whether it stands for something, and the value."""
        values = np.full(self._half, np.nan, np.float32)
        values[: self._count] = self.magnitudes()
        known = np.arange(self._half) < self._half - self.spare_codes
        if self.infinities:
            values[self._count] = np.inf
        if not self.signed:
            return known, values
        known, values = np.tile(known, 2), np.concatenate([values, -values])
        if not self.negative_zero:
            values[self._half] = np.nan
            known[self._half] = self.nan is NanCodes.MINUS_ZERO
        return known, values
