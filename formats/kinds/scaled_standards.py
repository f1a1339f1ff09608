"""Standards with a scale that comes from the data, which is what people mean by FP8: E4M3/tensor, a power of two, and
E4M3/real, any float32 number.

Definition: docs/definitions/formats.md section 5. A scale moves a standard's finite values; its codes, NaN and
infinities among them, stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.kinds.grid import Grid
from formats.kinds.profile_format import ProfileFormat
from formats.kinds.real_scale import RealScaled
from formats.kinds.standard_format import StandardFormat
from formats.number_format import NumberFormat, fingerprint
from formats.profile import Profile
from formats.rounding import NEAREST, ModeChoice
from formats.scale import Granularity, Scale, group
from formats.specials import Overflow
from formats.spelling import OutsideFamily, policy_suffix, scale_suffix

SMALLEST_NORMAL = 2.0**-126
"""Of float32."""


def check_element(element: StandardFormat) -> None:
    """Refuse standards that a scale makes nothing of: without sign or zero, of float32's range, with an overflow of
    their own, and P3109's that keep one significant bit."""
    usual = element.signed and element.zero and not element.even_code_ties and element.overflow is Overflow.SATURATE
    if not usual or element.min_positive() < SMALLEST_NORMAL:
        raise ValueError(
            f"{element.name} has no scale from data; signed standards with a zero and fewer exponents than float32 "
            "have one, such as E4M3/tensor and E4M3/real"
        )


class _OfStandard:
    """Codes of a standard's elements, for formats that scale them."""

    element: StandardFormat

    def _codes_of_elements(self, elements: NDArray[np.float64]) -> NDArray[Any]:
        """The codes of values of the element; without -0, that of 0 for it."""
        return self.element._codes(
            elements if self.element.negative_zero else elements + 0.0, self.element.find_top(None)
        )

    def _codes_of_nan(self, x: NDArray[Any]) -> Any:
        return self.element._codes_of_nan(x)

    def _elements_of_codes(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """The element's values, exact; ValueError for codes without one."""
        return np.asarray(self.element._decode(codes, self.element.find_top(None), None), np.float64)


@dataclass(frozen=True)
class ScaledStandardFormat(_OfStandard, ProfileFormat):
    """A standard whose top exponent comes from the data: `E4M3/tensor`, one a channel, row, block or tile.

    `top` of `round`, `encode` and `decode` is the top exponent T of each group, as for profiles: the standard's own T
    is a scale of 1. Magnitudes beyond the largest value saturate, infinities too. Codes are the standard's: -0, NaN
    and infinities decode as there, and NaN has a code where it has one there.

    Args:
        element: the standard.
        scale: which elements share T, and how it is found from them.

    Raises:
        ValueError: for standards without a sign or a zero, and those of float32's range.

    Source:
        docs/definitions/formats.md section 5.

    >>> import formats, numpy as np
    >>> x = np.float32([1000.0, -3.3, 0.01])
    >>> formats.get("E4M3/tensor").round(x).tolist(), formats.get("E4M3").round(x).tolist()
    ([896.0, -3.25, 0.01171875], [448.0, -3.25, 0.009765625])
    """

    element: StandardFormat = field(kw_only=True)

    def __post_init__(self) -> None:
        check_element(self.element)
        super().__post_init__()

    @property
    def spare_codes(self) -> int:
        """The standard's."""
        return self.element.spare_codes

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes."""
        return fingerprint(["scaled", self.element.digest, self.scale.content])

    @property
    def on_every_device(self) -> bool:
        """Whether tensors on other devices are rounded there: where they have one scale, and -0 is a value."""
        return self.granularity is Granularity.TENSOR and self.element.negative_zero

    def with_scale(self, scale: Scale) -> ScaledStandardFormat:
        """The same standard with another rule for the scale."""
        return replace(self, scale=scale, name=_name(self.element, scale))

    def _round(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        y = super()._round(x, top, mode, out, keep_infinities)
        return y if self.element.negative_zero else np.add(y, 0, out=y)  # -0 + 0 is +0

    def _powers(self, tops: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
        """The exponent of each element's scale."""
        return group(self.scale, shape).per_element(tops, shape) - self.element.top

    def _encodes_values_only(self, x: NDArray[Any]) -> bool:
        return True

    def _encode(self, x: NDArray[Any], top: Any, out: NDArray[Any] | None) -> tuple[NDArray[Any], Any]:
        return NumberFormat._encode(self, x, top, out)

    def _codes(self, x: NDArray[Any], scale: NDArray[np.int64]) -> NDArray[Any]:
        values = np.where(np.isnan(x), 0, x).astype(np.float64)
        return self._codes_of_elements(np.ldexp(values, -self._powers(scale, x.shape)))

    def _decode(self, codes: NDArray[Any], scale: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        elements = self._elements_of_codes(codes)
        return np.asarray(np.ldexp(elements, self._powers(scale, codes.shape)), np.float32)

    @cached_property
    def _decoded(self) -> NDArray[np.float64]:
        return np.ldexp(self.element._decoded[1].astype(np.float64), -self.element.top)


def _name(element: StandardFormat, scale: Scale) -> str:
    if scale.per is Granularity.TENSOR:
        return f"{element.name}/tensor{policy_suffix(scale)}"
    return element.name + scale_suffix(scale)


def scaled_standard(element: StandardFormat, scale: Scale = Scale()) -> ScaledStandardFormat:
    """A standard with a power-of-two scale from the data."""
    check_element(element)
    return ScaledStandardFormat(
        element.profile,
        element.bits,
        scale,
        _name(element, scale),
        OutsideFamily.STANDARD,
        element.largest,
        element=element,
    )


@dataclass(frozen=True)
class RealStandardFormat(_OfStandard, RealScaled):
    """A standard times a scale that is any float32 number: `E4M3/real`, one a tensor, channel, row, block or tile.

    `top` of `round`, `encode` and `decode` is the scale itself: a positive float32 number or an array of them, of the
    group shape. Magnitudes beyond the largest value saturate, infinities too. To nearest, the exact quotient x / s
    decides; the other modes choose between the two values around x, which stays if it is one. Codes are the standard's:
    -0, NaN and infinities decode as there, and NaN has a code where it has one there.

    Args:
        element: the standard.
        scale: which elements share a scale.
        name: by default the canonical one.

    Raises:
        ValueError: for standards without a sign or a zero, and those of float32's range; for headroom, policies and
            exponent fields, which are for powers of two.

    Source:
        docs/definitions/formats.md section 5; scaling by the largest magnitude as NVIDIA's Transformer Engine does it.

    >>> import formats, numpy as np
    >>> e4m3 = formats.get("E4M3/real")
    >>> q = e4m3.encode(np.float32([1.0, -0.3, 0.001]))
    >>> q.codes.tolist(), float(q.top), q.decode().tolist()
    ([126, 240, 46], 0.0022321429569274187, [1.0, -0.2857142984867096, 0.0009765625])
    """

    element: StandardFormat
    scale: Scale = Scale()
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_element(self.element)
        self._check_rule()
        if not self.name:
            object.__setattr__(self, "name", f"{self.element.name}/real{scale_suffix(self.scale)}")

    @property
    def bits(self) -> int:
        """The standard's width."""
        return self.element.bits

    @property
    def family(self) -> OutsideFamily:
        """Standard."""
        return OutsideFamily.STANDARD

    @property
    def profile(self) -> Profile:
        """The standard's significant bits by binade."""
        return self.element.profile

    @property
    def binades(self) -> int:
        """Number of binades that hold values."""
        return self.element.binades

    @property
    def spare_codes(self) -> int:
        """The standard's."""
        return self.element.spare_codes

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes."""
        return fingerprint(["real", self.element.digest, self.scale.content])

    @property
    def _grid(self) -> Grid:
        return self.element.grid

    @property
    def _element_top(self) -> int:
        return self.element.top

    @property
    def _minus_zero(self) -> bool:
        return self.element.negative_zero

    def with_scale(self, scale: Scale) -> RealStandardFormat:
        """The same standard, with a real scale shared by others."""
        return replace(self, scale=scale, name="")

    # Codes.

    def _codes(self, x: NDArray[Any], scale: NDArray[np.float32]) -> NDArray[Any]:
        return self._codes_of_elements(np.copysign(self._elements(x, self._each(scale, x.shape), NEAREST), x))

    def _decode(self, codes: NDArray[Any], scale: NDArray[np.float32], out: NDArray[Any] | None) -> NDArray[Any]:
        elements = self._elements_of_codes(codes)
        return np.asarray((elements * self._each(scale, codes.shape)).astype(np.float32))
