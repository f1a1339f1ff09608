"""Formats that a precision profile describes: how many significant bits each binade keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats import profile as profiles
from formats.checks import check_mode, code_type
from formats.kinds.grid import Grid
from formats.kinds.real_steps import round_to_steps
from formats.layout import tile, to_float
from formats.number_format import NumberFormat, fingerprint
from formats.profile import Profile
from formats.rounding import ModeChoice, Rounding
from formats.scale import Granularity, Scale, TopRule
from formats.spelling import Family, OutsideFamily, name_and_family

if TYPE_CHECKING:
    from formats.kernel import Survey


@dataclass(frozen=True)
class ProfileFormat(NumberFormat):
    """A sign-magnitude format given by its precision profile, and the rule for its scale.

    `top` of `round`, `encode` and `decode` is the top exponent T of each group: a whole number or an integer array of
    the group shape. Ties go to the even multiple of the local step, magnitudes beyond the largest saturate, a negative
    value that rounds to zero gives -0.0.
    Codes are uint8, or uint16 above 8 bits: sign << (bits-1) | magnitude index, zero always 0; two's complement
    integers for fixed point.
    Equal by content: two formats that round and encode alike are equal, whatever they are called.

    Args:
        profile: significant bits of each binade, top first.
        bits: the width of a code, 2 to 16.
        scale: which elements share T, and how it is found from them.
        name: what tables print.
        family: what `formats.get` says it is.
        largest: the largest magnitude as a multiple of the top binade's step, where that is not all ones; None where it
            is.

    Raises:
        ValueError: for a profile without a float32 scale, for other widths, and for more magnitudes than the bits hold.

    Source:
        docs/definitions/formats.md sections 1 to 3 (S. Lee, J. Park, D. Jeon, ICLR 2022).

    >>> import formats, numpy as np
    >>> tiny = formats.ProfileFormat((2, 2, 1), bits=4, name="tiny")
    >>> tiny.magnitudes().tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.5]
    >>> tiny.round(np.float32([1.2, -0.3, 9.0]), top=0)
    array([ 1.  , -0.25,  1.5 ], dtype=float32)
    """

    profile: Profile
    bits: int
    scale: Scale = Scale()
    name: str = field(default="", compare=False)
    family: Family | OutsideFamily = field(default=Family.CUSTOM, compare=False)
    largest: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", profiles.check(self.profile))
        profiles.check_bits(self.bits)
        first = self.profile[0]
        if self.largest == (1 << first) - 1:
            object.__setattr__(self, "largest", None)
        if self.largest is not None and not 1 << (first - 1) <= self.largest < 1 << first:
            raise ValueError(
                f"largest multiple {self.largest}: {1 << (first - 1)} to {(1 << first) - 1} lie in the top binade"
            )
        count, room = self.grid.count, 1 << (self.bits - 1)
        if count > room:
            raise ValueError(
                f"the profile {profiles.written(self.profile)} has {count} magnitudes, zero included; "
                f"{self.bits} bits hold {room}: {count - room} too many; a binade of p bits has 2^(p-1) of them"
            )

    @cached_property
    def grid(self) -> Grid:
        """The magnitudes, and the loops that round to them."""
        largest = self.largest or (1 << self.profile[0]) - 1
        return Grid(self.profile, largest, self.scale, self.top_range, self.name)

    # What the format is.

    @property
    def binades(self) -> int:
        """Number of binades that hold values."""
        return len(self.profile)

    @property
    def spare_codes(self) -> int:
        """Codes of each sign that stand for no value; that of minus zero is not counted."""
        return (1 << (self.bits - 1)) - self.grid.count

    @property
    def two_complement(self) -> bool:
        """Whether codes are two's complement integers (fixed point) rather than sign and magnitude index."""
        return self.profile == profiles.fixed(self.bits) and self.largest is None

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes."""
        return fingerprint([self.profile, self.bits, self.largest, self.scale.content])

    @cached_property
    def top_range(self) -> tuple[int, int]:
        """Smallest and largest top exponent at which all values are float32 numbers that the scale's field can hold."""
        low, high = profiles.top_range(self.profile)
        if self.scale.exponent_field is not None:
            low, high = max(low, self.scale.exponent_field[0]), min(high, self.scale.exponent_field[1])
        return low, high

    @property
    def on_every_device(self) -> bool:
        """Whether tensors on other devices are rounded there: where they have one scale."""
        return self.granularity is Granularity.TENSOR

    def with_scale(self, scale: Scale) -> ProfileFormat:
        """The same grid with another rule for the scale."""
        if self.largest is not None:
            raise ValueError(f"{self.name} has blocks of its own; only headroom and the scale policy can be changed")
        name, family = name_and_family(self.profile, self.bits, scale)
        return replace(self, scale=scale, name=name, family=family)

    def max(self, top: int = 0) -> float:
        """The largest value at top exponent `top`."""
        return float(self.magnitudes(top)[-1])

    def min_positive(self, top: int = 0) -> float:
        """The smallest positive value at top exponent `top`."""
        return float(np.ldexp(1.0, top - self.binades + 1))

    def magnitudes(self, top: int = 0) -> NDArray[np.float64]:
        """All magnitudes at top exponent `top`, ascending, zero first, exact; index i is magnitude index i of the
        codes."""
        return np.ldexp(self.grid.magnitudes, top)

    # The scale, and rounding.

    @property
    def top_rule(self) -> TopRule:
        """How a group's largest magnitude decides its top exponent."""
        return self.grid.rule

    def find_top(self, x: Any) -> NDArray[np.int64]:
        """The top exponent that the scale rule picks for each group of x: an int64 array of the group shape."""
        return self.grid.find_top(to_float(x))

    def _check_top(self, top: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return self.grid.check_top(top, shape)

    def _round(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        return self.grid.round(x, top, mode, out, keep_infinities)

    def round_surveyed(self, x: NDArray[Any], top: int, keep_infinities: bool = False) -> tuple[NDArray[Any], Survey]:
        """`round_array` to nearest of a C-contiguous array with one scale, and in the same pass what it did
        (`formats.kernel.Survey`)."""
        return self.grid.round_surveyed(x, top, keep_infinities)

    def round_scaled(
        self,
        x: Any,
        step: ArrayLike,
        *,
        axis: int | None = None,
        rounding: Rounding | str = Rounding.NEAREST,
        seed: int | None = None,
        stream: int = 0,
        keep_infinities: bool = True,
    ) -> NDArray[np.float32]:
        """x / step rounded to the format with the top binade's step as 1, times step: quantization with a real scale.

        Scale rules are not looked at: all of the format's values lie on one grid. To nearest, the exact quotient
        decides; in stochastic rounding the quotient as a float32 number, rounded to odd, has the chance that `round`
        would give it. The product is rounded to float32 once. NaN stays.

        Args:
            x: float32 numpy array or CPU tensor.
            step: a positive float32 number, or with `axis` one for each index of that axis.
            axis: see there.
            rounding: as for `round`, but without hysteresis, and so are seed and stream. It is an element's place in
                memory (without gaps) that has a random number, so that channels-last tensors take no longer.
            keep_infinities: infinities stay; else they saturate.

        Returns:
            float32 of x's shape and memory order.

        Raises:
            TypeError: for other dtypes.
            ValueError: for steps that are not positive and finite or do not fit, and for hysteresis.

        Source:
            docs/definitions/methods.md section 1.
        """
        array = to_float(x)
        if array.dtype != np.float32:
            raise TypeError(f"{array.dtype} was given; float32 is needed")
        if rounding == Rounding.HYSTERESIS:
            raise ValueError(
                "hysteresis rounding needs a fixed grid; with a real scale use nearest, stochastic or a directed mode"
            )
        mode = check_mode(rounding, seed, stream, None, array.shape)
        shared = Scale() if axis is None else Scale(per=Granularity.CHANNEL, axis=axis)
        return round_to_steps(array, step, shared, mode, self.profile[0] - 1, self.grid.words, keep_infinities)

    # Codes.

    def _encodes_values_only(self, x: NDArray[Any]) -> bool:
        return x.dtype != np.float32

    def _encode(self, x: NDArray[Any], top: Any, out: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
        from formats import kernel

        stored, half, rule = code_type(self.bits), 1 << (self.bits - 1), None
        wrap = 2 * half if self.two_complement else 0
        one = self.granularity is Granularity.TENSOR and x.flags.c_contiguous
        flat = one and (out is None or out.flags.c_contiguous)
        if top is not None:
            found = self._check_top(top, x.shape)
        elif flat and 0 < x.size <= kernel.FOUND_AT_ONCE:
            # Found in the call that encodes.
            found, rule = np.empty((), np.int64), self.grid.rule
        else:
            found = np.array(self.grid.rule.top(kernel.largest_flat(x)), np.int64) if one else self.find_top(x)
        if flat:
            codes = np.empty(x.shape, stored) if out is None else out
            known = kernel.encode_flat(x, codes, found, self.grid.words, wrap, half, rule)
        else:
            tiled = tile(x, self.scale, out, stored)
            codes = tiled.result
            known = kernel.encode_tiles(tiled.x, tiled.out, tiled.tile, tiled.tops(found), self.grid.words, wrap, half)
        if not known:
            raise self._no_code_for_nan
        return codes, found

    def _check_codes(self, codes: ArrayLike) -> NDArray[Any]:
        # Of their own type all can be looked up.
        return given if (given := np.asarray(codes)).dtype == code_type(self.bits) else super()._check_codes(given)

    def _decode(self, codes: NDArray[Any], scale: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        from formats import kernel

        tiled = tile(np.asarray(codes, code_type(self.bits), order="C"), self.scale, out, np.float32)
        if not kernel.decode_tiles(tiled.x, tiled.out, tiled.tile, tiled.tops(scale), self._decoded):
            raise self._no_value(codes[np.isnan(tiled.result)])
        return tiled.result

    @cached_property
    def _decoded(self) -> NDArray[np.float64]:
        """The value at T = 0 of everything that the codes' integer type holds; NaN where there is none."""
        values = np.full(1 << (8 if self.bits <= 8 else 16), np.nan)
        magnitudes = self.grid.magnitudes
        values[: len(magnitudes)] = magnitudes
        if self.two_complement:
            half = 1 << (self.bits - 1)
            values[half : 2 * half] = np.arange(-half, 0) * magnitudes[1]
        else:
            start = 1 << (self.bits - 1)
            values[start + 1 : start + len(magnitudes)] = -magnitudes[1:]
        return values


def from_profile(
    profile: Iterable[int], bits: int | None = None, name: str | None = None, scale: Scale = Scale()
) -> ProfileFormat:
    """A format from significant bits per binade, top first.

    Args:
        profile: the bits.
        bits: the width of a code; by default the fewest that hold all magnitudes.
        name: by default the canonical one.
        scale: which elements share a top exponent, and how it is found.

    Raises:
        ValueError: where `ProfileFormat` does; TypeError for a profile that is no sequence of whole numbers.

    >>> import formats
    >>> formats.from_profile([5, 5, 5, 5, 5, 5, 5, 4, 3, 2, 1]).name
    'FP134'
    """
    values = profiles.check(profile)
    if bits is None:
        bits = max(2, 1 + (profiles.magnitude_count(values) - 1).bit_length())
    canonical, family = name_and_family(values, bits, scale)
    return ProfileFormat(values, bits, scale, name or canonical, family)
