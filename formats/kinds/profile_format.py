"""What a number format is to the rest of the project, and the formats that a precision profile describes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats import profile as profiles
from formats.layout import Tiled, clash, dense_order, like, tile, to_float
from formats.number_format import Codes, Emulated, check_codes, check_mode, check_out, code_type, fingerprint, put
from formats.profile import Profile
from formats.rounding import NEAREST, ModeChoice, Rounding
from formats.scale import Granularity, Scale, ScalePolicy, check_top, group

if TYPE_CHECKING:
    from formats.kernel import Survey


class Family(StrEnum):
    """The families of the catalogue, and what lies outside them.

    Source: S. Lee, J. Park, D. Jeon, ICLR 2022 (the first four), and docs/definitions/formats.md sections 1 and 4.

    >>> import formats
    >>> formats.get("T8.5x3@2").family
    <Family.TAPERED: 'tapered'>
    """

    INT = "INT"
    FP = "FP"
    TAPERED = "tapered"
    BLOCK_MINIFLOAT = "BM"
    MICROSCALING = "MX"
    CUSTOM = "custom"


@dataclass(frozen=True)
class ProfileFormat(Emulated):
    """A sign-magnitude format given by its precision profile, and the rule for its scale.

    largest: the largest magnitude as a multiple of the top binade's step, where that is not all ones; None where it is.

    Equal by content: two formats that round and encode alike are equal, whatever they are called.

    `top` of `round`, `encode` and `decode` is the top exponent T of each group: a whole number or an integer array of
    the group shape. Ties go to the even multiple of the local step, magnitudes beyond the largest saturate, a negative
    value that rounds to zero gives -0.0.
    Codes are uint8, or uint16 above 8 bits: sign << (bits-1) | magnitude index, zero always 0; two's complement
    integers for fixed point. Raises ValueError for a profile without a float32 scale, for 1 bit or more than 16, and
    for more magnitudes than the bits hold.
    Source: docs/definitions/formats.md sections 1 to 3 (S. Lee, J. Park, D. Jeon, ICLR 2022).

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
    family: Family = field(default=Family.CUSTOM, compare=False)
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
        count, room = profiles.magnitude_count(self.profile) - self._dropped, 1 << (self.bits - 1)
        if count > room:
            raise ValueError(
                f"the profile {profiles.written(self.profile)} has {count} magnitudes, zero included; {self.bits} bits hold {room}"
            )

    @property
    def _dropped(self) -> int:
        """Magnitudes of the profile above the largest."""
        return 0 if self.largest is None else (1 << self.profile[0]) - 1 - self.largest

    # What the format is.

    @property
    def binades(self) -> int:
        """Number of binades that hold values."""
        return len(self.profile)

    @property
    def spare_codes(self) -> int:
        """Codes of each sign that stand for no value; that of minus zero is not counted."""
        return (1 << (self.bits - 1)) - profiles.magnitude_count(self.profile) + self._dropped

    @property
    def two_complement(self) -> bool:
        """Whether codes are two's complement integers (fixed point) rather than sign and magnitude index."""
        return self.profile == profiles.fixed(self.bits) and self.largest is None

    @cached_property
    def digest(self) -> str:
        """A stable fingerprint of everything that decides how this format rounds and encodes."""
        return fingerprint([self.profile, self.bits, self.largest, asdict(self.scale)])

    @cached_property
    def top_range(self) -> tuple[int, int]:
        """Smallest and largest top exponent at which all values are float32 numbers that the scale's field can hold."""
        low, high = profiles.top_range(self.profile)
        if self.scale.exponent_field is not None:
            low, high = max(low, self.scale.exponent_field[0]), min(high, self.scale.exponent_field[1])
        return low, high

    def with_scale(self, scale: Scale) -> ProfileFormat:
        """The same grid with another rule for the scale."""
        from formats import names

        if self.largest is not None:
            raise ValueError(f"{self.name} has blocks of its own; only headroom and the scale policy can be changed")
        name, family = names.name_and_family(self.profile, self.bits, scale)
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
        return np.ldexp(self._magnitudes, top)

    @cached_property
    def _magnitudes(self) -> NDArray[np.float64]:
        parts = [np.zeros(1)]
        for d in reversed(range(self.binades)):
            p = self.profile[d]
            parts.append(np.ldexp(np.arange(1 << (p - 1), 1 << p, dtype=np.float64), 1 - p - d))
        whole = np.concatenate(parts)
        return whole[: len(whole) - self._dropped]

    @cached_property
    def _grid(self) -> NDArray[np.int64]:
        from formats import kernel

        return kernel.describe(self.profile, self.largest or (1 << self.profile[0]) - 1)

    # The scale.

    def find_top(self, x: Any) -> NDArray[np.int64]:
        """The top exponent that the scale rule picks for each group of x: an int64 array of the group shape."""
        return self._find_top(tile(to_float(x), self.scale))

    def _find_top(self, tiled: Tiled) -> NDArray[np.int64]:
        from formats import kernel

        largest = tiled.per_group(kernel.largest_of_tiles(tiled.x, tiled.tile, tiled.tiles))
        # frexp is exact, subnormal numbers included: largest = fraction * 2^exponent, 1/2 <= fraction < 1.
        fraction, exponent = np.frexp(largest.astype(np.float64))
        above, headroom, low, high = self._rule
        more = np.ldexp(fraction, 53) - (1 << 52) > above
        return np.clip(np.where(largest > 0, exponent.astype(np.int64) - 1 + more + headroom, 0), low, high)

    def _top_for(self, largest: float) -> int:
        """The same for one group's largest magnitude."""
        above, headroom, low, high = self._rule
        fraction, exponent = math.frexp(largest)
        top = exponent - 1 + (math.ldexp(fraction, 53) - (1 << 52) > above) + headroom if largest else 0
        return min(max(top, low), high)

    @cached_property
    def _rule(self) -> tuple[int, int, int, int]:
        """How many 2^-52 above a power of two the largest magnitude may be before T is one more; headroom; the range of
        T."""
        first = self.profile[0]
        above = {
            ScalePolicy.FLOOR: 1 << 52,
            ScalePolicy.CEIL: 0,
            # From half a step below the next power of two: the tie goes there, since that is even.
            ScalePolicy.EVEN: (1 << 52) - (1 << (52 - first)) - 1,
            ScalePolicy.RCEIL: ((self.largest or (1 << first) - 1) << (53 - first)) - (1 << 52),
        }[self.scale.policy]
        return above, self.scale.headroom, *self.top_range

    def _check_top(self, top: ArrayLike, groups: tuple[int, ...]) -> NDArray[np.int64]:
        return check_top(top, groups, self.top_range, self.name)

    # Rounding and codes.

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
        from formats import kernel

        check_out(out, x.shape, x.dtype)
        if out is not None and clash(x, out):
            out[...] = self.round_array(x, top=top, mode=mode, keep_infinities=keep_infinities)
            return out
        shape = x.shape
        nearest = mode.rounding is Rounding.NEAREST
        if self.granularity is Granularity.TENSOR and x.flags.c_contiguous and (out is None or out.flags.c_contiguous):
            # The common cases, without what the others need.
            one: int | tuple[int, int, int, int]
            if top is not None:
                one = int(self._check_top(top, ()))
            else:
                one = (
                    self._rule if nearest and x.size <= kernel.FOUND_AT_ONCE else self._top_for(kernel.largest_flat(x))
                )
            # A copy of previous values, since `out` may be they.
            before = None if mode.previous is None else like(x, mode.previous)
            result = np.empty(shape, x.dtype) if out is None else out
            if isinstance(one, tuple) or nearest:
                kernel.round_flat(x, result, one, self._grid, keep_infinities)
            else:
                made = kernel.Mode(mode.rounding, before, mode.seed, mode.stream)
                kernel.round_flat_in_mode(x, result, one, self._grid, keep_infinities, made)
            return result
        repeated = nearest and self.granularity is Granularity.TENSOR and 0 in x.strides and x.size > 1
        if repeated:
            # One of each repeated element is enough; the result is spread out again below.
            x = x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.strides)]
        stochastic = mode.rounding is Rounding.STOCHASTIC
        logical = stochastic and self.granularity is Granularity.TENSOR
        if not nearest and not x.flags.c_contiguous and (logical or dense_order(x) is None):
            # Random numbers follow the logical order, so it has to be that of the memory; previous values have to lie
            # as x does.
            x = np.ascontiguousarray(x).reshape(shape)
        if mode.previous is not None and like(x, mode.previous).strides != x.strides:
            x = np.array(x, order="C")
        tiled = tile(x, self.scale, None if repeated else out, places=stochastic)
        if nearest and top is None and self.granularity is Granularity.BLOCK:
            kernel.round_blocks(tiled.x, tiled.out, tiled.tile, tiled.tiles, self._grid, keep_infinities, self._rule)
        elif nearest:
            found = self._find_top(tiled) if top is None else self._check_top(top, tiled.grouping.groups)
            kernel.round_tiles(tiled.x, tiled.out, tiled.tile, tiled.tops(found), self._grid, keep_infinities)
        else:
            found = self._find_top(tiled) if top is None else self._check_top(top, tiled.grouping.groups)
            before = None
            if mode.previous is not None:
                # A copy, since `out` may be the previous values; laid out as the kernel sees x.
                before = tile(like(x, mode.previous), self.scale).x
            made = kernel.Mode(mode.rounding, before, mode.seed, mode.stream, tiled.logical)
            kernel.round_tiles_in_mode(
                tiled.x, tiled.out, tiled.tile, tiled.tops(found), self._grid, keep_infinities, made
            )
        result = tiled.result
        if out is None:
            return np.broadcast_to(result, shape).copy() if repeated else result
        if result is not out:
            out[...] = result
        return out

    def round_surveyed(self, x: NDArray[Any], top: int, keep_infinities: bool = False) -> tuple[NDArray[Any], Survey]:
        """`round_array` to nearest of a C-contiguous array with one scale, and in the same pass what it did
        (`formats.kernel.Survey`)."""
        from formats import kernel

        out = np.empty(x.shape, x.dtype)
        one = int(self._check_top(top, ()))
        return out, kernel.round_and_survey(x, out, one, self._grid, keep_infinities, self.max(one))

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

        x: float32 numpy array or CPU tensor. step: a positive float32 number, or with `axis` one for each index of that
        axis. rounding, seed,
        stream: as for `round`, but without hysteresis, and it is an element's place in memory (without gaps) that has a
        random number, so that channels-last tensors take no longer. Scale rules are not looked at: all of the format's
        values lie on one grid. To nearest, the exact quotient decides; in stochastic rounding the quotient as a float32
        number, rounded to odd, has the chance that `round` would give it. The product is rounded to float32 once. NaN
        stays, and infinities unless they are to saturate.

        Returns float32 of x's shape and memory order. Raises TypeError for other dtypes, ValueError for steps that are
        not positive and finite or do not fit, and for hysteresis. Source: docs/definitions/methods.md section 1.
        """
        from formats import kernel

        array = to_float(x)
        if array.dtype != np.float32:
            raise TypeError(f"{array.dtype} was given; float32 is needed")
        if rounding == Rounding.HYSTERESIS:
            raise ValueError(
                "hysteresis rounding needs a fixed grid; with a real scale use nearest, stochastic or a directed mode"
            )
        mode = check_mode(rounding, seed, stream, None, array.shape)
        steps = np.asarray(step, np.float32)
        wanted = () if axis is None else group(Scale(per=Granularity.CHANNEL, axis=axis), array.shape).groups
        if steps.shape != wanted:
            raise ValueError(f"step has shape {steps.shape}; here {wanted} is needed")
        if not ((steps > 0) & (steps < np.inf)).all():
            raise ValueError(f"steps from {steps.min()} to {steps.max()}; positive finite numbers are needed")
        order = dense_order(array)
        if order is None:
            array, order = np.ascontiguousarray(array).reshape(array.shape), list(range(array.ndim))
        out = np.empty_like(array)
        # How many neighbours in memory have one step.
        run = (
            array.size
            if axis is None or not array.ndim
            else math.prod(array.shape[d] for d in order[order.index(axis % array.ndim) + 1 :])
        )
        flat, flat_out = (each.transpose(order).reshape(-1, copy=False) for each in (array, out))
        made = kernel.Mode(mode.rounding, None, mode.seed, mode.stream)
        kernel.round_scaled(
            flat,
            flat_out,
            steps.astype(np.float64).reshape(-1),
            run,
            self.profile[0] - 1,
            self._grid,
            keep_infinities,
            made,
        )
        return out

    def encode_array(self, x: NDArray[Any], *, top: Any, mode: ModeChoice, out: NDArray[Any] | None = None) -> Codes:
        """`encode` of a float32 or float64 array. On NaN it raises ValueError, and then leaves `out` in part
        written."""
        from formats import kernel

        target, stored = None if clash(x, out) else out, code_type(self.bits)
        one = self.granularity is Granularity.TENSOR and x.flags.c_contiguous
        flat = one and (target is None or target.flags.c_contiguous)
        nearest, rule = mode.rounding is Rounding.NEAREST and x.dtype == np.float32, None
        if top is not None:
            found = self._check_top(top, () if one else group(self.scale, x.shape).groups)
        elif flat and nearest and 0 < x.size <= kernel.FOUND_AT_ONCE:
            # Found in the call that encodes.
            found, rule = np.empty((), np.int64), self._rule
        else:
            found = np.array(self._top_for(kernel.largest_flat(x)), np.int64) if one else self.find_top(x)
        if not nearest:
            # Values of the format are float32 numbers, which the encoding below leaves as they are.
            x = self.round_array(x, top=found, mode=mode).astype(np.float32, copy=False)
        half = 1 << (self.bits - 1)
        wrap = 2 * half if self.two_complement else 0
        if flat:
            codes = np.empty(x.shape, stored) if target is None else target
            known = kernel.encode_flat(x, codes, found, self._grid, wrap, half, rule)
        else:
            tiled = tile(x, self.scale, target, stored)
            codes = tiled.result
            known = kernel.encode_tiles(tiled.x, tiled.out, tiled.tile, tiled.tops(found), self._grid, wrap, half)
        if not known:
            raise ValueError(f"x holds NaN, for which {self.name} has no code")
        return Codes(codes if codes is out else put(codes, out), found, self)

    def decode(self, codes: ArrayLike, top: Any = 0, *, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The float32 values of codes (unsigned integers of any shape) at top exponent `top`, as `encode` gave them.

        out: float32 of the shape of the codes, where to put them. Raises ValueError for a code that stands for no
        value.
        """
        from formats import kernel

        given = np.asarray(codes)
        stored = code_type(self.bits)
        if given.dtype != stored:
            check_codes(given, self.bits, self.name)
        tops = self._check_top(top, group(self.scale, given.shape).groups)
        check_out(out, given.shape, np.float32)
        contiguous = np.array(given, stored, order="C", copy=None if out is None or not clash(given, out) else True)
        tiled = tile(contiguous, self.scale, out, np.float32)
        if not kernel.decode_tiles(tiled.x, tiled.out, tiled.tile, tiled.tops(tops), self._decoded):
            unused = int(given[np.isnan(tiled.result)].flat[0])
            raise ValueError(f"code {unused:#04x} stands for no value of {self.name}")
        return tiled.result if tiled.result is out else put(tiled.result, out)

    @cached_property
    def _decoded(self) -> NDArray[np.float64]:
        """The value at T = 0 of everything that the codes' integer type holds; NaN where there is none."""
        values = np.full(1 << (8 if self.bits <= 8 else 16), np.nan)
        magnitudes = self._magnitudes
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

    bits: the width of a code; by default the fewest that hold all magnitudes. name: by default the canonical one.

    >>> import formats
    >>> formats.from_profile([5, 5, 5, 5, 5, 5, 5, 4, 3, 2, 1]).name
    'FP134'
    """
    from formats.names import name_and_family

    values = profiles.check(profile)
    if bits is None:
        bits = max(2, 1 + (profiles.magnitude_count(values) - 1).bit_length())
    canonical, family = name_and_family(values, bits, scale)
    return ProfileFormat(values, bits, scale, name or canonical, family)
