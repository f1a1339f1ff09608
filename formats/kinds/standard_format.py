"""Standard formats outside the 498: a precision profile at a constant top exponent, and rules for special values.

Definition: docs/definitions/formats.md section 5. Sources: OCP 8-bit Floating Point Specification (E4M3, E5M2), OCP
Microscaling Formats v1.0 (E3M2, E2M3, E2M1, E8M0), IEEE 754-2019 (float16), the types of ml_dtypes 0.6 for the others,
IEEE P3109 as gfloat 0.5.2 has it. FP169 is the master format of Lee, Park, Jeon, ICLR 2022.

Where peers differ, and what is done here:

- One-bit significands: ml_dtypes and torch take E8M0's ties up, gfloat to the even code. E8M0 goes up; P3109 follows
its draft (even code).
- Between E8M0's two smallest values, 2^-127 and 2^-126, ml_dtypes and torch go up from every number above 2^-127, the
nearer ones too. So
  does E8M0 here. gfloat goes to nearest there, and leaves smaller numbers as they are.
- E8M0 of zero and of negative numbers is NaN in ml_dtypes and here; torch drops the sign, and zero becomes 2^-127.
- torch's cast to E4M3 saturates (since 2.12), infinities too; its other float8 casts overflow as here with
overflow="standard".
- NaN encodes as the quiet NaN of its sign, as in ml_dtypes (E5M2: 0x7E); torch writes 0x7F for E5M2.
- The types without NaN saturate in ml_dtypes, and here whatever `overflow` says. NaN becomes a zero of the opposite
sign in ml_dtypes;
  here it stays NaN in `round` and is an error in `encode`.
- Negative numbers in P3109's unsigned formats stay negative in gfloat; here they become zero, or NaN with
overflow="standard".
- ml_dtypes converts float64 through float32 and so rounds twice; here it is rounded once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats import profile as profiles
from formats.kinds.codebook_format import NF4, CodebookFormat, OutsideFamily, posit
from formats.kinds.profile_format import ProfileFormat
from formats.number_format import Codes, Emulated, check_codes, check_out, code_type, put
from formats.profile import Profile
from formats.rounding import NEAREST, ModeChoice, Rounding
from formats.scale import Scale
from numeric_formats.checks import one_of

MOST_BITS = 19
"""The width of the widest standard, TF32."""


class Overflow(StrEnum):
    """What becomes of a magnitude beyond the largest value.

    saturate: the largest value, of infinities too. standard: infinity where the format has one, else NaN where it has
    that, else saturate.
    Source: docs/definitions/formats.md section 5; ml_dtypes. Another name raises ValueError in
    `StandardFormat.with_overflow`.

    >>> import formats, numpy as np
    >>> x = np.float32([500, 470])
    >>> formats.get("E4M3").round(x).tolist(), formats.get("E4M3/standard").round(x).tolist(), formats.get("E5M2/standard").round(x * 999).tolist()
    ([448.0, 448.0], [nan, nan], [inf, inf])
    """

    SATURATE = "saturate"
    STANDARD = "standard"


class NanCodes(StrEnum):
    """Which codes stand for NaN.

    IEEE: all above infinity, of each sign. ONE: the highest, of each sign. MINUS_ZERO: the code that minus zero would
    have.
    """

    NONE = "none"
    IEEE = "IEEE"
    ONE = "one"
    MINUS_ZERO = "code of -0"


class _Grid(ProfileFormat):
    """A profile format that only rounds: it may have more magnitudes than there are codes of 16 bits (TF32)."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class StandardFormat(Emulated):
    """A precision profile at the constant top exponent `top`, with special values.

    profile: significant bits of each binade, top first. bits: the width of a code, 2 to 19.
    largest: the largest magnitude as a multiple of the top binade's step (E4M3: 14, since 15 is NaN).
    infinities: whether the code after the largest magnitude is infinity. nan: which codes are NaN.
    negative_zero: whether -0 has a code; where it has none, results are +0. signed: whether negative values have codes.
    zero: whether zero has a code (E8M0 has none: zero and negative numbers become NaN).
    even_code_ties: in binades of one significant bit a tie goes to the even code instead of up (P3109).
    overflow: saturate (infinities too), or "standard": infinity where there is one, else NaN, else saturate, as
    ml_dtypes does.

    `round` takes ties to the even multiple of the local step. Beyond the largest value `overflow` decides, with IEEE's
    meaning of beyond: what would round above the largest value were there no end. Negative values that round to zero
    give -0.0 where the format has it, else +0.0. Without a sign, negative values become 0, or NaN with
    overflow="standard"; E8M0, which has no zero either, makes zero and negative values NaN, positive ones below 2^-127
    that number, and those between 2^-127 and 2^-126 the latter, as ml_dtypes does. With overflow="standard" rounding is
    to nearest only. `top` is None or the format's own. Codes are the standard's bit patterns: uint8, uint16 above 8
    bits, uint32 above 16; NaN gets the quiet NaN of its sign.

    Equal by content: formats that round and encode alike are equal, whatever they are called.
    Raises ValueError where the values are no float32 numbers or need more codes than there are.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", profiles.check(self.profile))
        for enum, given in ((NanCodes, "nan"), (Overflow, "overflow")):
            object.__setattr__(self, given, one_of(given, enum, getattr(self, given)))
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
                f"largest {self.largest}: a top binade of {self.profile[0]} significant bits has {lead} to {2 * lead - 1}"
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
        unused = (1 << self.profile[0]) - 1 - self.largest
        return profiles.magnitude_count(self.profile) - unused - int(not self.zero)

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

    @cached_property
    def _magnitudes(self) -> NDArray[np.float64]:
        """All magnitudes at T = 0."""
        return self._plain.magnitudes()[0 if self.zero else 1 :]

    @cached_property
    def _plain(self) -> ProfileFormat:
        """The same magnitudes as a profile format, which saturates and keeps signs."""
        return _Grid(self.profile, self.bits, name=self.name, largest=self.largest)

    # Rounding.

    def find_top(self, x: Any) -> NDArray[np.int64]:
        """The constant top exponent, whatever x holds: an int64 array of shape ()."""
        return np.array(self.top, np.int64)

    def _check_top(self, top: Any) -> None:
        if top is None:
            return
        given = np.asarray(top)
        if given.dtype.kind not in "iu":
            raise TypeError(f"top is {top!r}; a whole number or None is needed")
        if given.shape != () or given != self.top:
            raise ValueError(f"top {top!r} was given; {self.name} has the constant top exponent {self.top}")

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
        self._check_mode(mode)
        self._check_top(top)
        if not self._corrected:
            return self._plain.round_array(x, top=self.top, mode=mode, out=out, keep_infinities=keep_infinities)
        check_out(out, x.shape, x.dtype)
        # Into memory of its own, since the corrections read x after it.
        y = self._plain.round_array(x, top=self.top, mode=mode, keep_infinities=keep_infinities)
        self._correct(x, y, keep_infinities, mode.rounding is Rounding.NEAREST)
        return put(y, out)

    def _check_mode(self, mode: ModeChoice) -> None:
        if mode.rounding is not Rounding.NEAREST and self._beyond is not None:
            raise ValueError(
                f'rounding {mode.rounding.value}: only to nearest has an overflow="standard"; {self.name} would have to saturate'
            )

    @property
    def _beyond(self) -> float | None:
        """What overflow="standard" makes of an overflow; None where it saturates too."""
        if self.overflow is Overflow.SATURATE:
            return None
        if self.infinities:
            return float("inf")
        return None if self.nan is NanCodes.NONE else float("nan")

    @property
    def _corrected(self) -> bool:
        """Whether the kernel's result, which saturates and keeps signs, is not yet the format's."""
        return self._beyond is not None or not self.negative_zero or self.even_code_ties

    def _correct(self, x: NDArray[Any], y: NDArray[Any], keep_infinities: bool, nearest: bool) -> None:
        """Turn y, the kernel's result for x, into the format's, in place."""
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
                if nearest:  # or rather as ml_dtypes does it: see the module's docstring
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
        """Where the kernel took a tie between two powers of two up, take it down if the code below is even."""
        mantissa, exponent = (np.asarray(part) for part in np.frexp(np.abs(x)))
        code = exponent - 1 - self.top + self.binades
        down = (mantissa == 0.75) & (code % 2 == 0) & (code >= 1) & (code < self._count)
        if down.any():
            y[down] = np.copysign(np.ldexp(x.dtype.type(1), exponent[down] - 1), x[down])

    # Codes.

    def encode_array(self, x: NDArray[Any], *, top: Any, mode: ModeChoice, out: NDArray[Any] | None = None) -> Codes:
        """`encode` of a float32 or float64 array. ValueError on NaN where the format has no code for it."""
        y = self.round_array(x, top=top, mode=mode)
        # Infinity is above all magnitudes: its index is their number, which is its code.
        nan, negative = np.isnan(y), np.signbit(y)
        relative = np.ldexp(np.where(nan, 0, np.abs(y)).astype(np.float64), -self.top)
        codes = np.asarray(np.searchsorted(self._magnitudes, relative))
        if nan.any():
            if self._nan_code is None:
                raise ValueError(f"x holds NaN, for which {self.name} has no code")
            codes = np.where(nan, self._nan_code, codes)
            if self.nan is NanCodes.MINUS_ZERO:
                negative &= ~nan
        if self.signed:
            codes = codes + negative * self._half
        return Codes(put(codes.astype(code_type(self.bits)), out), np.array(self.top, np.int64), self)

    def decode(self, codes: ArrayLike, top: Any = None) -> NDArray[np.float32]:
        """The float32 values of bit patterns (whole numbers of any shape), infinities and NaN among them.

        top: None or the format's own. Raises ValueError for a code that stands for nothing.
        """
        self._check_top(top)
        given = check_codes(codes, self.bits, self.name)
        known, values = self._decoded
        if not known[given].all():
            raise ValueError(f"code {int(given[~known[given]].flat[0]):#04x} stands for no value of {self.name}")
        return np.asarray(values[given])

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


def minifloat(x: int, y: int, *, bias: int) -> StandardFormat:
    """Sign, x exponent bits and y fraction bits with this bias: the profile of FP1xy at T = 2^x - 1 - bias.

    Gradual underflow, all codes finite values, minus zero; saturates. The E2M1 of OCP is minifloat(2, 1, bias=1).
    Raises ValueError for widths outside 2 to 16 bits and for a bias at which values are not float32 numbers.

    x: 1 to 8. y: 0 or more. bias: any whole number at which all values are float32 numbers.
    Source: docs/definitions/formats.md section 5, the parametric form of OCP's and ml_dtypes' formats without special
    values.

    >>> import formats
    >>> formats.minifloat(2, 1, bias=1).magnitudes().tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """
    if not 1 <= x <= 8 or y < 0 or 1 + x + y > 16:
        raise ValueError(f"minifloat({x}, {y}): 1 to 8 exponent bits, and at most 16 bits with the sign, are allowed")
    return StandardFormat(
        profile=profiles.minifloat(x, y),
        bits=1 + x + y,
        top=(1 << x) - 1 - bias,
        largest=(2 << y) - 1,
        name=f"minifloat({x},{y},bias={bias})",
    )


def p3109(bits: int, precision: int, *, signed: bool = True, extended: bool = True) -> StandardFormat:
    """P3109:k.p.{signed,unsigned}.{finite,extended}: k bits of which p are significant, as gfloat 0.5.2's
    `format_info_p3109` has them.

    One NaN (the code of minus zero, or without a sign the highest), no minus zero; `extended`: the highest other codes
    are infinities. With p = 1 a tie goes to the even code. Raises ValueError for widths outside 2 to 16 bits, p outside
    1 to k, and where the values are not float32 numbers or none is positive.
    """
    name = f"P3109:{bits}.{precision}.{'signed' if signed else 'unsigned'}.{'extended' if extended else 'finite'}"
    if not 2 <= bits <= 16 or not 1 <= precision <= bits:
        raise ValueError(f"{name}: 2 to 16 bits, and 1 to that many significant ones, are allowed")
    exponent_bits = bits - precision + int(not signed)
    bias = (1 << exponent_bits) >> 1
    profile, top = profiles.minifloat(exponent_bits, precision - 1), (1 << exponent_bits) - 1 - bias
    taken = int(extended) + int(not signed)
    while profile and taken >= 1 << (profile[0] - 1):
        taken -= 1 << (profile[0] - 1)
        profile, top = profile[1:], top - 1
    if not profile:
        raise ValueError(f"{name} has no positive value")
    return StandardFormat(
        profile=profile,
        bits=bits,
        top=top,
        largest=(1 << profile[0]) - 1 - taken,
        infinities=extended,
        nan=NanCodes.MINUS_ZERO if signed else NanCodes.ONE,
        negative_zero=False,
        signed=signed,
        even_code_ties=precision == 1,
        name=name,
    )


def _ieee(name: str, exponent_bits: int, fraction_bits: int) -> StandardFormat:
    """IEEE 754's interchange formats and their like: the highest exponent holds infinity and NaN."""
    profile = profiles.minifloat(exponent_bits, fraction_bits)[1:]
    bits, top = 1 + exponent_bits + fraction_bits, (1 << (exponent_bits - 1)) - 1
    return StandardFormat(profile, bits, top, (2 << fraction_bits) - 1, infinities=True, nan=NanCodes.IEEE, name=name)


def _fnuz(name: str, exponent_bits: int, fraction_bits: int, bias: int) -> StandardFormat:
    """Finite, one NaN in the place of minus zero ("finite, NaN, unsigned zero")."""
    plain = minifloat(exponent_bits, fraction_bits, bias=bias)
    return replace(plain, nan=NanCodes.MINUS_ZERO, negative_zero=False, name=name)


@lru_cache(maxsize=1)
def _fixed() -> dict[str, StandardFormat | CodebookFormat]:
    """The standards that have a name without numbers to choose, by canonical name."""
    e8m0 = StandardFormat(
        (1,) * 255, 8, 127, 1, nan=NanCodes.ONE, negative_zero=False, signed=False, zero=False, name="E8M0"
    )
    entries: list[StandardFormat | CodebookFormat] = [
        replace(minifloat(4, 3, bias=7), largest=14, nan=NanCodes.ONE, name="E4M3"),
        _ieee("E5M2", 5, 2),
        _fnuz("E4M3FNUZ", 4, 3, 8),
        _fnuz("E5M2FNUZ", 5, 2, 16),
        _fnuz("E4M3B11FNUZ", 4, 3, 11),
        _ieee("E4M3IEEE", 4, 3),
        _ieee("E3M4", 3, 4),
        replace(minifloat(3, 2, bias=3), name="E3M2"),
        replace(minifloat(2, 3, bias=1), name="E2M3"),
        replace(minifloat(2, 1, bias=1), name="E2M1"),
        e8m0,
        replace(minifloat(6, 9, bias=31), name="FP169"),
        _ieee("bfloat16", 8, 7),
        _ieee("float16", 5, 10),
        _ieee("TF32", 8, 10),
        NF4,
    ]
    return {entry.name: entry for entry in entries}


STANDARDS: tuple[str, ...] = tuple(_fixed())
"""Canonical names without numbers to choose.

minifloat(x,y,bias=b), posit<n,es> and P3109:k.p.{signed,unsigned}.{finite,extended} are names as well.
"""

ALIASES = {
    "E4M3": "E4M3FN float8_e4m3fn fp8_e4m3 ocp_e4m3",
    "E5M2": "float8_e5m2 fp8_e5m2 ocp_e5m2",
    "E4M3FNUZ": "float8_e4m3fnuz",
    "E5M2FNUZ": "float8_e5m2fnuz",
    "E4M3B11FNUZ": "float8_e4m3b11fnuz",
    "E4M3IEEE": "float8_e4m3",
    "E3M4": "float8_e3m4",
    "E3M2": "E3M2FN float6_e3m2fn fp6_e3m2 ocp_e3m2",
    "E2M3": "E2M3FN float6_e2m3fn fp6_e2m3 ocp_e2m3",
    "E2M1": "E2M1FN float4_e2m1fn fp4_e2m1 ocp_e2m1",
    "E8M0": "E8M0FNU float8_e8m0fnu ocp_e8m0",
    "bfloat16": "bf16",
    "float16": "fp16 half binary16",
    "TF32": "tensorfloat32",
}


def standard(name: str) -> StandardFormat | CodebookFormat | None:
    """The standard of this name, in any case; None where it is the name of none.

    Names: those of `STANDARDS`, those by which ml_dtypes, torch and gfloat call them (float8_e4m3fn is E4M3,
    float8_e4m3 is E4M3IEEE), bf16, fp16; minifloat(4,3,bias=7), posit<8,2> or posit8,2; P3109:8.4.signed.extended or
    gfloat's p3109_k8p4se. Any but a codebook may end in "/standard", for overflow to infinity or NaN instead of
    saturation. Raises ValueError where a name with numbers asks for what there is not.

    >>> from formats.kinds.standard_format import standard
    >>> standard("float8_e4m3fn").max()
    448.0
    """
    spelling = name.strip().lower().replace(" ", "")
    base, _, suffix = spelling.partition("/")
    found = _parse(base)
    if not suffix:
        return found
    if suffix != Overflow.STANDARD or not isinstance(found, StandardFormat):
        return None
    return found.with_overflow(suffix)


@lru_cache(maxsize=256)
def _parse(spelling: str) -> StandardFormat | CodebookFormat | None:
    for canonical, entry in _fixed().items():
        if spelling in (canonical.lower(), *ALIASES.get(canonical, "").lower().split()):
            return entry
    if match := re.fullmatch(r"minifloat\((\d+),(\d+),bias=(-?\d+)\)", spelling):
        return minifloat(int(match[1]), int(match[2]), bias=int(match[3]))
    if match := re.fullmatch(r"posit<(\d+),(\d+)>|posit(\d+),(\d+)", spelling):
        bits, es = (int(part) for part in match.groups() if part is not None)
        return posit(bits, es)
    if match := re.fullmatch(r"p3109:(\d+)\.(\d+)\.(signed|unsigned)\.(finite|extended)", spelling):
        return p3109(int(match[1]), int(match[2]), signed=match[3] == "signed", extended=match[4] == "extended")
    if match := re.fullmatch(r"p3109_k(\d+)p(\d+)([su])([fe])", spelling):
        return p3109(int(match[1]), int(match[2]), signed=match[3] == "s", extended=match[4] == "e")
    return None
