"""Elements times a scale that is any float32 number, not a power of two: what INT8/real and E4M3/real share.

Definition: docs/definitions/formats.md section 2. s = max|x| / largest element over the finite elements of the group
that shares it, the exact quotient rounded to float32 once, to nearest even; a value is element * s, the product of the
two rounded to float32. A number becomes the element nearest to the exact quotient x / s, ties to even. So the values
of one code at two scales are not multiples of one another, and `round(round(x))` may differ from `round(x)` by a
rounding of the scale.

Dividing in float64 decides both exactly. What decides is on which side of a midpoint m the exact quotient a / b lies
(of two float32 numbers, or of two elements), and m * b is a float64: 25 and 15 bits, or at most 16 and 24. An a that is
not m * b is at least one float64 step away from it, which moves the quotient by more than half a step from m; so it is
never rounded to m, nor past it.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formats.kinds.real_steps import round_to_steps
from formats.layout import largest_of_groups, to_float
from formats.number_format import NumberFormat
from formats.rounding import ModeChoice, Rounding
from formats.scale import Scale, group

if TYPE_CHECKING:
    from formats.kinds.grid import Grid

SMALLEST_SCALE = np.float32(2**-149)


@cache
def largest_scale(largest: float) -> np.float32:
    """The largest float32 s at which largest * s, rounded to float32, is finite; at most the largest float32 number."""
    with np.errstate(over="ignore"):
        scale = np.float32(min(np.finfo(np.float32).max / largest, np.finfo(np.float32).max))
        # At most one step too high: the quotient was rounded once.
        return scale if np.isfinite(np.float32(largest) * scale) else np.nextafter(scale, np.float32(0))


def scales_for(magnitudes: NDArray[np.float64], largest: float) -> NDArray[np.float32]:
    """magnitudes / largest, rounded to float32 once, to nearest even; clamped to the scales at which values are
    float32. 1 for 0.

    magnitudes: of any shape. largest: a number of at most 15 significant bits.
    """
    with np.errstate(over="ignore", under="ignore"):
        scale = np.asarray(magnitudes / largest).astype(np.float32)
    return np.where(magnitudes == 0, np.float32(1), np.clip(scale, SMALLEST_SCALE, largest_scale(largest)))


def product(elements: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """element * scale, exact and then rounded to float32 once; in float64."""
    return np.asarray((elements * scale).astype(np.float32).astype(np.float64))


def values_around(
    elements: NDArray[np.float64], magnitude: NDArray[np.float64], each: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest value at or below each magnitude, and the next above it; the largest of all where there is none.

    elements: ascending, zero first. each: the scale of each magnitude.
    """
    reached = np.zeros(np.shape(magnitude), np.intp)
    # Values ascend with their elements, of which some may be alike at the smallest scales.
    for bit in reversed(range(len(elements).bit_length())):
        further = reached + (1 << bit)
        reaches = product(elements.take(further, mode="clip"), each) <= magnitude
        reached = np.where((further < len(elements)) & reaches, further, reached)
    return product(elements[reached], each), product(elements.take(reached + 1, mode="clip"), each)


class RealScaled(NumberFormat):
    """Rounding and scales of elements that lie on a grid; a kind adds its elements and its codes."""

    _plain_top: ClassVar[Any] = 1.0

    @property
    @abstractmethod
    def _grid(self) -> Grid:
        """The elements' magnitudes at the top exponent `_element_top`, without a scale rule."""

    @property
    @abstractmethod
    def _element_top(self) -> int:
        """See `_grid`."""

    @property
    def _minus_zero(self) -> bool:
        """Whether a negative number that rounds to zero gives -0.0."""
        return True

    @cached_property
    def _magnitudes(self) -> NDArray[np.float64]:
        """Of the elements, ascending, zero first."""
        return np.ldexp(self._grid.magnitudes, self._element_top)

    @property
    def _largest(self) -> float:
        return float(self._magnitudes[-1])

    def _check_rule(self) -> None:
        """Refuse what is for powers of two alone."""
        if self.scale != Scale(self.scale.per, self.scale.block, self.scale.axis):
            raise ValueError(f"{self.scale}: a real scale has no headroom, policy or exponent field")

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
        scales = self._found_or_given(x, top)
        if x.dtype == np.float32 and mode.rounding in (Rounding.NEAREST, Rounding.STOCHASTIC):
            words, between = self._grid.words, mode.rounding is Rounding.STOCHASTIC
            y = round_to_steps(x, scales, self.scale, mode, self._element_top, words, keep_infinities, between)
        else:
            y = super()._round(x, scales, mode, out, keep_infinities)
        return y if self._minus_zero else np.add(y, 0, out=y)  # -0 + 0 is +0

    def _rounded(self, x: NDArray[Any], scale: NDArray[np.float32], mode: ModeChoice) -> NDArray[np.float64]:
        each = self._each(scale, x.shape)
        if mode.rounding in (Rounding.NEAREST, Rounding.NEAREST_AWAY):
            values = product(self._elements(x, each, mode), each)
        else:
            from formats import kernel

            # The two values around x.
            low, high = values_around(self._magnitudes, np.abs(x.astype(np.float64)), each)
            values = kernel.round_between(x, low, high, mode)
        return np.copysign(values, x)

    def _elements(self, x: NDArray[Any], each: NDArray[np.float64], mode: ModeChoice) -> NDArray[np.float64]:
        """The magnitude of the element nearest to each quotient |x| / s; 0 for NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            quotient = np.minimum(np.abs(x.astype(np.float64)) / each, self._largest)
        quotient = np.where(np.isnan(quotient), 0, quotient)
        return np.asarray(self._grid.round(quotient, self._element_top, mode, None, False))
