"""Integers times a scale that is any float32 number, not a power of two: INT8/real and its like.

Definition: docs/definitions/formats.md section 2. s = max|x| / largest integer over the finite elements of the group
that shares it, the exact quotient rounded to float32 once, to nearest even; a value is integer * s, the product of the
two rounded to float32. An element becomes the integer nearest to the exact quotient x / s, ties to even. So the values
of one code at two scales are not multiples of one another, and `round(round(x))` may differ from `round(x)` by a
rounding of the scale.

Dividing in float64 decides both exactly. What decides is on which side of a midpoint m the exact quotient a / b lies
(of two float32 numbers, or k + 1/2), and m * b is a float64: 25 and 15 bits, or 16 and 24. An a that is not m * b is at
least one float64 step away from it, which moves the quotient by more than half a step from m; so it is never rounded to
m, nor past it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formats import profile as profiles
from formats.kinds.profile_format import ProfileFormat, from_profile
from formats.layout import largest_of_groups, to_float
from formats.number_format import NumberFormat, fingerprint
from formats.rounding import ModeChoice, Rounding
from formats.scale import Granularity, Scale, group
from formats.spelling import Family, scale_suffix

SMALLEST_SCALE = np.float32(2**-149)


@cache
def largest_scale(multiple: int) -> np.float32:
    """The largest float32 s at which multiple * s, rounded to float32, is finite."""
    scale = np.float32(np.finfo(np.float32).max / multiple)
    # At most one step too high: the quotient was rounded once.
    with np.errstate(over="ignore"):
        return scale if np.isfinite(np.float32(multiple) * scale) else np.nextafter(scale, np.float32(0))


def scales_for(largest: NDArray[np.float64], multiple: int) -> NDArray[np.float32]:
    """largest / multiple, rounded to float32 once, to nearest even; clamped to the scales at which values are float32.
    1 for 0.

    largest: magnitudes, any shape. multiple: a whole number of at most 15 bits.
    """
    with np.errstate(over="ignore", under="ignore"):
        scale = np.asarray(largest / multiple).astype(np.float32)
    return np.where(largest == 0, np.float32(1), np.clip(scale, SMALLEST_SCALE, largest_scale(multiple)))


def product(elements: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """element * scale, exact and then rounded to float32 once; in float64."""
    return np.asarray((elements * scale).astype(np.float32).astype(np.float64))


@dataclass(frozen=True)
class IntegerFormat(NumberFormat):
    """Two's complement integers times a real scale: `INT8/real`, one scale a tensor, channel or block.

    The integers are -(2^(bits-1) - 1) to 2^(bits-1) - 1; the code of -2^(bits-1) decodes and is never produced.

    `top` of `round`, `encode` and `decode` is the scale itself: a positive float32 number or an array of them, of the
    group shape. Magnitudes beyond the largest value saturate, infinities too; a negative value that rounds to zero
    gives -0.0 in `round` and code 0. To nearest, the exact quotient x / s decides; the other modes choose between the
    two values around x, which stays if it is one. Codes are the integers' bits: uint8, or uint16 above 8 bits. NaN has
    no code.

    Args:
        bits: 2 to 16.
        scale: which elements share a scale.
        name: by default the canonical one.

    Raises:
        ValueError: for other widths, and for headroom, policies and exponent fields, which are for powers of two.

    Source:
        docs/definitions/formats.md section 2, as integer quantization is usually done (max|x| / 127).

    >>> import formats, numpy as np
    >>> int8 = formats.get("INT8/real")
    >>> q = int8.encode(np.float32([0.3, -1.27, 0.0149]))
    >>> q.codes.view(np.int8).tolist(), float(q.top)
    ([30, -127, 1], 0.009999999776482582)
    """

    bits: int
    scale: Scale = Scale()
    name: str = field(default="", compare=False)

    _plain_top: ClassVar[Any] = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 16:
            raise ValueError(f"{self.bits!r} bits: 2 to 16 are allowed")
        if self.scale != Scale(self.scale.per, self.scale.block, self.scale.axis):
            raise ValueError(f"{self.scale}: a real scale has no headroom, policy or exponent field")
        if not self.name:
            object.__setattr__(self, "name", f"INT{self.bits}/real{scale_suffix(self.scale)}")

    @property
    def family(self) -> Family:
        """INT."""
        return Family.INT

    @property
    def spare_codes(self) -> int:
        """0: every integer has a code, and every code stands for one."""
        return 0

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes."""
        return fingerprint(["real", self.bits, asdict(self.scale)])

    @cached_property
    def _integers(self) -> ProfileFormat:
        """The same integers without a scale rule."""
        return from_profile(profiles.fixed(self.bits), self.bits)

    @property
    def _largest(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def with_scale(self, scale: Scale) -> IntegerFormat:
        """The same integers, with a real scale shared by others."""
        return replace(self, scale=scale, name="")

    def max(self, top: float = 1.0) -> float:
        """The largest value at a scale, a float32 number."""
        return float(np.float32(self._largest * np.float64(np.float32(top))))

    # The scale.

    def find_top(self, x: Any) -> NDArray[np.float32]:
        """The scale of each group of x: float32 of the group shape, 1 where no finite element is nonzero."""
        return scales_for(largest_of_groups(to_float(x), self.scale), self._largest)

    def _check_top(self, top: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
        groups, given = group(self.scale, shape).groups, np.asarray(top)
        if given.dtype.kind not in "iuf":
            raise TypeError(f"top is {top!r}; a scale, an array of them or None is needed")
        if given.shape not in ((), groups):
            raise ValueError(f"top has shape {given.shape}; for this array it is a number or has shape {groups}")
        with np.errstate(over="ignore"):
            scales = np.broadcast_to(given.astype(np.float32), groups)
        high = largest_scale(self._largest)
        # Written so that NaN is refused too.
        if not ((scales >= SMALLEST_SCALE) & (scales <= high)).all():
            raise ValueError(
                f"scales from {given.min()} to {given.max()} were given; "
                f"{self.name} has float32 scales above 0 up to {high}"
            )
        return np.array(scales)

    def _each(self, scales: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The scale of each element."""
        return group(self.scale, shape).per_element(scales, shape).astype(np.float64)

    # Rounding.

    def _round(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        scales, per = self._found_or_given(x, top), self.scale.per
        if x.dtype == np.float32 and mode.rounding is Rounding.NEAREST and per is not Granularity.BLOCK:
            axis = None if per is Granularity.TENSOR else self.scale.axis
            return self._integers.round_scaled(x, scales, axis=axis, keep_infinities=keep_infinities)
        return super()._round(x, scales, mode, out, keep_infinities)

    def _rounded(self, x: NDArray[Any], scale: NDArray[np.float32], mode: ModeChoice) -> NDArray[np.float64]:
        each = self._each(scale, x.shape)
        quotient = self._quotients(x, each)
        if mode.rounding is Rounding.NEAREST:
            values = product(np.rint(quotient), each)
        elif mode.rounding is Rounding.NEAREST_AWAY:
            whole = np.floor(quotient)
            values = product(whole + (quotient - whole >= 0.5), each)
        else:
            values = self._in_mode(x, quotient, each, mode)
        return np.copysign(values, x)

    def _quotients(self, x: NDArray[Any], each: NDArray[np.float64]) -> NDArray[np.float64]:
        """|x| / s, at most the largest integer, to the nearest float64; 0 for NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            quotient = np.minimum(np.abs(x.astype(np.float64)) / each, self._largest)
        return np.where(np.isnan(quotient), 0, quotient)

    def _in_mode(
        self, x: NDArray[Any], quotient: NDArray[np.float64], each: NDArray[np.float64], mode: ModeChoice
    ) -> NDArray[np.float64]:
        """The magnitude that each element becomes in a mode other than to nearest."""
        from formats import kernel

        whole = np.floor(quotient)
        # Values are products that were rounded, so |x| may lie just outside those that its quotient tells.
        magnitude = np.abs(x.astype(np.float64))
        whole -= product(whole, each) > magnitude
        whole += product(np.minimum(whole + 1, self._largest), each) <= magnitude
        low, high = (np.minimum(integer, self._largest) for integer in (whole, whole + 1))
        return kernel.round_between(x, product(low, each), product(high, each), mode)

    # Codes.

    def _codes(self, x: NDArray[Any], scale: NDArray[np.float32]) -> NDArray[np.int64]:
        whole = np.rint(self._quotients(x, self._each(scale, x.shape)))
        return np.copysign(whole, x).astype(np.int64) & ((1 << self.bits) - 1)

    def _decode(self, codes: NDArray[Any], scale: NDArray[np.float32], out: NDArray[Any] | None) -> NDArray[Any]:
        half = 1 << (self.bits - 1)
        integers = (codes.astype(np.int64) ^ half) - half
        # -2^(bits-1) times the largest scale may be out of float32's range.
        with np.errstate(over="ignore"):
            return np.asarray((integers * self._each(scale, codes.shape)).astype(np.float32))
