"""Formats given by their values.

How rounding works. To nearest is one binary search (`formats.kinds.boundaries`). The other modes search the two
neighbours (formats/kernel/codebook.py) and choose by the rule of `formats.rounding` (formats/kernel/neighbours.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.kinds.boundaries import as_float32, first_above
from formats.layout import Tiled, largest_of_groups, tile, to_float
from formats.number_format import NumberFormat
from formats.profile import FLOAT32_LARGEST_EXPONENT, FLOAT32_SMALLEST_EXPONENT
from formats.rounding import ModeChoice, Rounding
from formats.scale import Granularity, Scale, ScalePolicy, TopRule, check_top, group, top_rule
from formats.spelling import OutsideFamily, scale_suffix

TO_NEAREST = (Rounding.NEAREST, Rounding.NEAREST_AWAY)
ANY_ZERO = np.finfo(np.float64).smallest_subnormal
"""What a number that is not zero counts as where its quotient by 2^T would be."""


def _lowest_bit(value: float) -> int:
    """The exponent of the lowest set bit of a nonzero float."""
    numerator, denominator = value.as_integer_ratio()
    return (numerator & -numerator).bit_length() - denominator.bit_length()


@dataclass(frozen=True)
class CodebookFormat(NumberFormat):
    """A format given by its values at T = 0, and the rule for its scale.

    A code is the index of the value (with `signed`: sign << (bits-1) | index of the magnitude, and zero always its
    positive code). `round` goes to the nearest value times 2^top, `top` being a whole number, and a tie to the even
    index; what lies beyond the values saturates, in every mode. With `signed` magnitudes a negative value that rounds
    to zero gives -0.0, except with two's complement codes (posits). The other modes choose between the two values
    around x.
    Equal by content: formats that round and encode alike are equal, whatever they are called.

    Args:
        values: strictly ascending float32 numbers; all values, or with `signed` the magnitudes, each of which has both
            signs.
        bits: the width of a code, 1 to 16.
        signed: see `values`.
        scale: per tensor, channel or block, with any headroom; the floor rule is the only policy.
        boundaries: between each value and the next, where rounding changes; None for the midpoints. On a boundary the
            even index is taken.
        only_zero_is_zero: what is not zero never rounds to zero (posits).
        two_complement: the code of a negative value is 2^bits less that of its magnitude (posits), not sign and
            magnitude.
        nan_code: the code of NaN, or None.
        name: what tables print.

    Raises:
        ValueError: for values, boundaries, bits, scales and codes that do not fit together.

    Source:
        docs/definitions/formats.md sections 1 and 3.

    >>> import formats, numpy as np
    >>> thirds = formats.CodebookFormat((-1.0, 0.0, 0.375, 1.0), bits=2, name="thirds")
    >>> q = thirds.encode(np.float32([0.2, -0.7, 5.0]), top=0)
    >>> q.codes.tolist(), q.decode().tolist()
    ([2, 0, 3], [0.375, -1.0, 1.0])
    """

    values: tuple[float, ...]
    bits: int
    signed: bool = False
    scale: Scale = Scale()
    boundaries: tuple[float, ...] | None = None
    only_zero_is_zero: bool = False
    two_complement: bool = False
    nan_code: int | None = None
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        object.__setattr__(self, "values", tuple(values.tolist()))
        with np.errstate(over="ignore", invalid="ignore"):
            stored = values.astype(np.float32)
        if values.ndim != 1 or not np.isfinite(stored).all() or (stored != values).any():
            raise ValueError(
                "a codebook's values are a sequence of finite float32 numbers; from_codebook rounds others to float32"
            )
        if not values.size or not values.any() or (np.diff(values) <= 0).any():
            raise ValueError("a codebook's values are strictly ascending, and one at least is not zero")
        if self.signed and values[0] < 0:
            raise ValueError(f"signed codebooks are given by their magnitudes; {values[0]} is negative")
        if not isinstance(self.bits, int) or not 1 <= self.bits <= 16:
            raise ValueError(f"{self.bits!r} bits: 1 to 16 are allowed")
        if self.spare_codes < 0:
            raise ValueError(f"{len(values)} {'magnitudes' if self.signed else 'values'} do not fit {self.bits} bits")
        if self.scale.policy is not ScalePolicy.FLOOR:
            raise ValueError(
                f"scale policy {self.scale.policy}: codebooks find their scale by the floor rule alone; a headroom of "
                "1 keeps all numbers within the values"
            )
        if self.scale.exponent_field is not None:
            raise ValueError(f"exponent field {self.scale.exponent_field}: scales of codebooks have none")
        if self.two_complement and not (self.signed and values[0] == 0):
            raise ValueError("two's complement codes need signed magnitudes that begin with zero")
        if self.only_zero_is_zero and not (self.signed and values[0] == 0):
            raise ValueError("only_zero_is_zero needs signed magnitudes that begin with zero")
        if self.boundaries is not None:
            between = np.array(self.boundaries, np.float64)
            object.__setattr__(self, "boundaries", tuple(between.tolist()))
            if between.shape != (len(values) - 1,) or (between < values[:-1]).any() or (between > values[1:]).any():
                raise ValueError("boundaries are one fewer than the values, each between its two")

    def __hash__(self) -> int:
        return hash(self.digest)

    # What the format is.

    @property
    def family(self) -> OutsideFamily:
        """Codebook."""
        return OutsideFamily.CODEBOOK

    @property
    def spare_codes(self) -> int:
        """Codes (with `signed`: of each sign) that stand for no value; those of minus zero and NaN are not counted."""
        return (1 << (self.bits - int(self.signed))) - len(self.values)

    @cached_property
    def top_range(self) -> tuple[int, int]:
        """Smallest and largest `top` at which all values are float32 numbers."""
        low = FLOAT32_SMALLEST_EXPONENT - min(_lowest_bit(value) for value in self.values if value)
        return low, FLOAT32_LARGEST_EXPONENT - self.largest_exponent

    @property
    def largest_exponent(self) -> int:
        """floor(log2) of the largest magnitude."""
        return int(np.frexp(max(abs(self.values[0]), abs(self.values[-1])))[1]) - 1

    def with_scale(self, scale: Scale) -> CodebookFormat:
        """The same values with another rule for the scale; the name says which."""
        return replace(self, scale=scale, name=self.name.removesuffix(scale_suffix(self.scale)) + scale_suffix(scale))

    def max(self, top: int = 0) -> float:
        """The largest value times 2^top."""
        return float(np.ldexp(self.values[-1], top))

    def min_positive(self, top: int = 0) -> float:
        """The smallest positive value times 2^top; ValueError where no value is positive."""
        positive = [value for value in self.values if value > 0]
        if not positive:
            raise ValueError(f"{self.name} has no positive value")
        return float(np.ldexp(positive[0], top))

    def magnitudes(self, top: int = 0) -> NDArray[np.float64]:
        """All magnitudes times 2^top, ascending, without repetition, exact: float64, one-dimensional."""
        return np.ldexp(np.unique(np.abs(self._values)), top)

    @cached_property
    def _values(self) -> NDArray[np.float64]:
        return np.array(self.values)

    @cached_property
    def _all_values(self) -> NDArray[np.float64]:
        """The values of both signs at T = 0, ascending."""
        return np.concatenate([-self._values[self._values > 0][::-1], self._values]) if self.signed else self._values

    # The scale.

    @cached_property
    def _rule(self) -> TopRule:
        """By how much T lies above floor(log2) of the largest magnitude that it is for, in `headroom`."""
        rule = top_rule(self.scale, 1, 1, self.top_range)
        return rule._replace(headroom=self.scale.room - self.largest_exponent)

    def find_top(self, x: Any) -> NDArray[np.int64]:
        """T = floor(log2 max|x|) - floor(log2 of the largest magnitude) + headroom over finite elements: int64 of the
        group shape.

        0 where no finite element is nonzero; clamped to `top_range`.
        """
        from formats import kernel

        array = to_float(x)
        if self.granularity is Granularity.TENSOR and array.flags.c_contiguous:
            return np.array(self._rule.top(kernel.largest_flat(array)), np.int64)
        return self._rule.tops(largest_of_groups(array, self.scale))

    def _check_top(self, top: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return check_top(top, group(self.scale, shape).groups, self.top_range, self.name)

    # Rounding.

    def _round(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        tops = self._found_or_given(x, top)
        if mode.rounding not in TO_NEAREST:
            made = self._round_in_mode(x, tops, mode, keep_infinities)
        elif x.dtype == np.float32 and self.granularity is Granularity.TENSOR:
            made = self._round_float32(x, int(tops), mode.rounding, out, keep_infinities)
        else:
            made = super()._round(x, tops, mode, out, keep_infinities)
        if self.two_complement:
            with np.errstate(invalid="ignore"):  # signalling NaN
                np.add(made, 0, out=made)  # minus zero has no code
        return made

    def _round_float32(
        self, x: NDArray[Any], top: int, rounding: Rounding, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        """To nearest, compiled."""
        from formats import kernel

        made = out if out is not None and out.flags.c_contiguous else np.empty(x.shape, np.float32)
        kernel.look_up(np.ascontiguousarray(x), made, *self._at(top, rounding), self.signed, keep_infinities)
        return made

    def _round_in_mode(
        self, x: NDArray[Any], tops: NDArray[np.int64], mode: ModeChoice, keep_infinities: bool
    ) -> NDArray[Any]:
        """In any mode but those to nearest, compiled."""
        from formats import kernel

        # Random numbers follow the logical order, so it has to be that of the memory; previous values lie as x does,
        # and none is rounded.
        common = x.dtype if mode.previous is None else np.result_type(x, mode.previous)

        def laid_out(values: NDArray[Any]) -> Tiled:
            with np.errstate(invalid="ignore"):  # signalling NaN
                return tile(np.ascontiguousarray(values, common).reshape(x.shape), self.scale)

        tiled = laid_out(x)
        kernel.look_up_in_mode(
            tiled.x,
            tiled.out,
            None if mode.previous is None else laid_out(mode.previous).x,
            tiled.tile,
            tiled.tops(tops),
            self._all_values,
            mode,
            copy_sign=self.signed,
            apart=self.only_zero_is_zero,
            keep_infinities=keep_infinities,
        )
        return tiled.result.astype(x.dtype, copy=False)

    def _rounded(self, x: NDArray[Any], scale: NDArray[np.int64], mode: ModeChoice) -> NDArray[np.float64]:
        """To nearest."""
        index, each = self._nearest(x, scale, mode.rounding)
        values = np.ldexp(self._values[index], each)
        return np.copysign(values, x) if self.signed else values

    def _nearest(
        self, x: NDArray[Any], tops: NDArray[np.int64], rounding: Rounding = Rounding.NEAREST
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Where in `values` each element goes (NaN: to the last), and the top exponent of each."""
        each = group(self.scale, x.shape).per_element(tops, x.shape)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            relative = np.ldexp(x.astype(np.float64), -each)
            # What became zero is still not zero; far from a boundary, and so not in need of more care.
            relative = np.where((relative == 0) & (x != 0), np.copysign(ANY_ZERO, x), relative)
            magnitude = np.abs(relative) if self.signed else relative
        steps = self._steps if rounding is Rounding.NEAREST else self._steps_away
        return np.searchsorted(steps, magnitude, side="right"), each

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        """The smallest float64 that goes up, for each boundary at T = 0; exact."""
        return self._steps_with(np.arange(len(self.values) - 1) % 2 == 0)

    @cached_property
    def _steps_away(self) -> NDArray[np.float64]:
        """The same where a tie goes to the neighbour of the larger magnitude, and of two alike to the upper."""
        return self._steps_with(np.abs(self._values[:-1]) > np.abs(self._values[1:]))

    def _steps_with(self, stays_on_tie: NDArray[np.bool_]) -> NDArray[np.float64]:
        between = None if self.boundaries is None else np.array(self.boundaries)
        steps = first_above(self._values, between, stays_on_tie)
        if self.only_zero_is_zero:
            steps[0] = ANY_ZERO
        return steps

    # An entry holds a few KB and its format.
    @lru_cache(maxsize=64)  # noqa: B019
    def _at(self, top: int, rounding: Rounding) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The smallest float32 that goes up, for each boundary, in a mode to nearest; and the values: both at a top
        exponent."""
        found = as_float32(np.ldexp(self._steps if rounding is Rounding.NEAREST else self._steps_away, top))
        if self.only_zero_is_zero:
            found[0] = np.finfo(np.float32).smallest_subnormal
        return found, np.ldexp(self._values, top).astype(np.float32)

    # Codes.

    def _codes(self, x: NDArray[Any], scale: NDArray[np.int64]) -> NDArray[Any]:
        index, _ = self._nearest(x, scale)
        if not self.signed:
            return np.asarray(index)
        negative = np.signbit(x) & (self._values[index] != 0)
        return np.where(negative, self._minus(index), index)

    def _minus(self, index: NDArray[np.intp]) -> NDArray[np.intp]:
        """The code of the negative value of a magnitude."""
        return (1 << self.bits) - index if self.two_complement else index + (1 << (self.bits - 1))

    def _codes_of_nan(self, x: NDArray[Any]) -> int | None:
        return self.nan_code

    def _decode(self, codes: NDArray[Any], scale: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        values = self._decoded[codes]
        unused = np.isnan(values)
        if self.nan_code is not None:
            unused &= codes != self.nan_code
        if unused.any():
            raise self._no_value(codes[unused])
        each = group(self.scale, codes.shape).per_element(scale, codes.shape)
        return np.asarray(np.ldexp(values, each).astype(np.float32))

    @cached_property
    def _decoded(self) -> NDArray[np.float64]:
        """The value of every code at T = 0; NaN where there is none."""
        decoded = np.full(1 << self.bits, np.nan)
        decoded[: len(self.values)] = self._values
        if self.signed:
            index = np.flatnonzero(self._values)
            decoded[self._minus(index)] = -self._values[index]
        return decoded
