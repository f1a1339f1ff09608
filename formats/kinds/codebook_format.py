"""Formats given by their values: tables, NF4 and posits.

Definition: docs/definitions/formats.md sections 1 and 5. NF4: T. Dettmers et al., "QLoRA: Efficient Finetuning of
Quantized LLMs", NeurIPS 2023, appendix E. Posits: Posit Working Group, "Standard for Posit Arithmetic (2022)", sections
3 and 4, with es left free.

How rounding works. Between two neighbouring values lies a boundary; all that matters about it is the smallest float
that goes to the upper value. Those floats are found once, exactly, and then rounding to nearest is one binary search,
with no tie left to decide. The other modes search the two neighbours (kernel/codebook.py) and choose
(kernel/neighbours.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.layout import Tiled, clash, largest_of_groups, tile, to_float
from formats.number_format import Codes, Emulated, check_codes, check_out, code_type, put, with_specials
from formats.profile import FLOAT32_LARGEST_EXPONENT, FLOAT32_SMALLEST_EXPONENT
from formats.rounding import NEAREST, ModeChoice, Rounding
from formats.scale import Granularity, Scale, check_top, group


class OutsideFamily(StrEnum):
    """The families of formats outside the 498, beside `formats.Family`."""

    STANDARD = "standard"
    CODEBOOK = "codebook"


def _lowest_bit(value: float) -> int:
    """The exponent of the lowest set bit of a nonzero float."""
    numerator, denominator = value.as_integer_ratio()
    return (numerator & -numerator).bit_length() - denominator.bit_length()


@dataclass(frozen=True)
class CodebookFormat(Emulated):
    """A format given by its values at T = 0, and the rule for its scale (docs/definitions/formats.md section 1).

    values: strictly ascending float32 numbers; all values, or with `signed` the magnitudes, each of which has both
    signs.
    bits: the width of a code, 1 to 16. scale: per tensor, channel or block, with any headroom; the floor rule is the
    only policy.
    boundaries: between each value and the next, where rounding changes; None for the midpoints. On a boundary the even
    index is taken.
    only_zero_is_zero: what is not zero never rounds to zero (posits).
    two_complement: the code of a negative value is 2^bits less that of its magnitude (posits), not sign and magnitude.
    nan_code: the code of NaN, or None.

    A code is the index of the value (with `signed`: sign << (bits-1) | index of the magnitude, and zero always its
    positive code). `round` goes to the nearest value times 2^top, `top` being a whole number, and a tie to the even
    index; what lies beyond the values saturates, in every mode. With `signed` magnitudes a negative value that rounds
    to zero gives -0.0, except with two's complement codes (posits). The other modes choose between the two values
    around x (docs/definitions/formats.md section 3).
    Equal by content: formats that round and encode alike are equal, whatever they are called.

    Raises ValueError for values, boundaries, bits, scales and codes that do not fit together. Source:
    docs/definitions/formats.md section 1.

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
        if self.scale != Scale(self.scale.per, self.scale.block, self.scale.axis, self.scale.headroom):
            raise ValueError(f"{self.scale}: codebook formats have scales by the floor rule, without an exponent field")
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
        return low, FLOAT32_LARGEST_EXPONENT - self._largest_exponent

    @cached_property
    def _largest_exponent(self) -> int:
        """floor(log2) of the largest magnitude."""
        return int(np.frexp(max(abs(self.values[0]), abs(self.values[-1])))[1]) - 1

    def with_scale(self, scale: Scale) -> CodebookFormat:
        """The same values with another rule for the scale; the name says which."""
        from formats.names import scale_suffix

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

    # Rounding.

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        """The smallest float64 that goes up, for each boundary at T = 0; exact."""
        return self._steps_with(np.arange(len(self.values) - 1) % 2 == 0)

    @cached_property
    def _steps_away(self) -> NDArray[np.float64]:
        """The same where a tie goes to the neighbour of the larger magnitude, and of two alike to the upper."""
        return self._steps_with(np.abs(self._values[:-1]) > np.abs(self._values[1:]))

    def _steps_with(self, stays_on_tie: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The smallest float64 that goes up, given which boundaries go down themselves.

        The sum of two neighbours is rounded, and what it lost is computed too (Knuth's two-sum, which is exact). Where
        nothing was lost the midpoint is a float64, and is a tie. Where the true midpoint lies above the rounded one,
        the next float64 is the first above it; where it lies below, the rounded one is.
        """
        lower, upper = self._values[:-1], self._values[1:]
        if self.boundaries is None:
            total = lower + upper
            part = total - lower
            lost = (lower - (total - part)) + (upper - part)
            boundary = total / 2
        else:
            boundary, lost = np.array(self.boundaries), np.zeros(len(lower))
        steps = np.where((lost > 0) | ((lost == 0) & stays_on_tie), np.nextafter(boundary, np.inf), boundary)
        if self.only_zero_is_zero:
            steps[0] = np.finfo(np.float64).smallest_subnormal
        return steps

    @cached_property
    def _all_values(self) -> NDArray[np.float64]:
        """The values of both signs at T = 0, ascending."""
        return np.concatenate([-self._values[self._values > 0][::-1], self._values]) if self.signed else self._values

    def _index(self, relative: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.intp]:
        """Where in `values` each number at T = 0 goes; NaN goes to the last."""
        with np.errstate(invalid="ignore"):
            magnitude = np.abs(relative) if self.signed else relative
        return np.searchsorted(steps, magnitude, side="right")

    # An entry holds a few KB and its format.
    @lru_cache(maxsize=64)  # noqa: B019
    def _at(self, top: int, rounding: Rounding) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The smallest float32 that goes up, for each boundary, in a mode to nearest; and the values: both at a top
        exponent."""
        steps = np.ldexp(self._steps if rounding is Rounding.NEAREST else self._steps_away, top)
        # The smallest float32 at or above each: the search stays in float32.
        near = steps.astype(np.float32)
        found = np.where(near < steps, np.nextafter(near, np.float32(np.inf)), near).astype(np.float32)
        if self.only_zero_is_zero:
            found[0] = np.finfo(np.float32).smallest_subnormal
        return found, np.ldexp(self._values, top).astype(np.float32)

    def find_top(self, x: Any) -> NDArray[np.int64]:
        """T = floor(log2 max|x|) - floor(log2 of the largest magnitude) + headroom over finite elements: int64 of the
        group shape.

        0 where no finite element is nonzero; clamped to `top_range`.
        """
        from formats import kernel

        array = to_float(x)
        if self.granularity is Granularity.TENSOR and array.flags.c_contiguous:
            return np.array(self._top_for(kernel.largest_flat(array)), np.int64)
        largest = largest_of_groups(array, self.scale)
        top = np.frexp(largest)[1].astype(np.int64) - 1 - self._largest_exponent + self.scale.headroom
        return np.asarray(np.where(largest > 0, np.clip(top, *self.top_range), 0))

    def _top_for(self, largest: float) -> int:
        """The same for one group's largest magnitude."""
        low, high = self.top_range
        return (
            min(max(math.frexp(largest)[1] - 1 - self._largest_exponent + self.scale.headroom, low), high)
            if largest
            else 0
        )

    def _top(self, shape: tuple[int, ...], top: Any) -> NDArray[np.int64]:
        """A given top, of the group shape of an array of this shape."""
        return check_top(top, group(self.scale, shape).groups, self.top_range, self.name)

    def _nearest(
        self, x: NDArray[Any], tops: NDArray[np.int64], steps: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Where in `values` each element goes, and the top exponent of each."""
        each = group(self.scale, x.shape).per_element(tops, x.shape)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            relative = np.ldexp(x.astype(np.float64), -each)
            # What became zero is still not zero; far from a boundary, and so not in need of more care.
            relative = np.where(
                (relative == 0) & (x != 0), np.copysign(np.finfo(np.float64).smallest_subnormal, x), relative
            )
        return self._index(relative, steps), each

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
        check_out(out, x.shape, x.dtype)
        found = self.find_top(x) if top is None else self._top(x.shape, top)
        if mode.rounding not in (Rounding.NEAREST, Rounding.NEAREST_AWAY):
            return put(self._round_in_mode(x, found, mode, keep_infinities), out)
        if x.dtype == np.float32 and self.granularity is Granularity.TENSOR:
            return self._round_float32(x, int(found), mode.rounding, out, keep_infinities)
        steps = self._steps if mode.rounding is Rounding.NEAREST else self._steps_away
        index, each = self._nearest(x, found, steps)
        result = np.ldexp(self._values[index], each).astype(x.dtype)
        if self.signed:
            result = np.copysign(result, x)
        result = with_specials(x, result, keep_infinities)
        return put(self._without_minus_zero(result), out)

    def _round_float32(
        self, x: NDArray[Any], top: int, rounding: Rounding, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        """To nearest, compiled."""
        from formats import kernel

        flat = np.ascontiguousarray(x)
        made = (
            out
            if out is not None and out.flags.c_contiguous and not clash(flat, out)
            else np.empty(x.shape, np.float32)
        )
        kernel.look_up(flat, made, *self._at(top, rounding), self.signed, keep_infinities)
        made = self._without_minus_zero(made)
        return made if made is out else put(made, out)

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
        return self._without_minus_zero(tiled.result.astype(x.dtype, copy=False))

    def _without_minus_zero(self, rounded: NDArray[Any]) -> NDArray[Any]:
        """The values, changed in place where minus zero has no code."""
        if self.two_complement:
            with np.errstate(invalid="ignore"):  # signalling NaN
                np.add(rounded, 0, out=rounded)
        return rounded

    # Codes.

    def encode_array(self, x: NDArray[Any], *, top: Any, mode: ModeChoice, out: NDArray[Any] | None = None) -> Codes:
        """`encode` of a float32 or float64 array. ValueError for NaN where there is no `nan_code`."""
        found = self.find_top(x) if top is None else self._top(x.shape, top)
        if mode.rounding is not Rounding.NEAREST:
            x = self.round_array(x, top=found, mode=mode)
        index, _ = self._nearest(x, found, self._steps)
        codes = np.asarray(index)
        if self.signed:
            negative = np.signbit(x) & (self._values[index] != 0)
            codes = np.where(
                negative, (1 << self.bits) - index if self.two_complement else index + (1 << (self.bits - 1)), index
            )
        nan = np.isnan(x)
        if nan.any():
            if self.nan_code is None:
                raise ValueError(f"x holds NaN, for which {self.name} has no code")
            codes = np.where(nan, self.nan_code, codes)
        return Codes(put(codes.astype(code_type(self.bits)), out), found, self)

    def decode(self, codes: ArrayLike, top: Any = 0) -> NDArray[np.float32]:
        """The float32 values of codes (whole numbers of any shape) times 2^top; NaN for `nan_code`.

        Raises ValueError for a code that stands for no value.
        """
        given = check_codes(codes, self.bits, self.name)
        found = self._top(given.shape, 0 if top is None else top)
        unused = np.isnan(self._decoded[given])
        if self.nan_code is not None:
            unused &= given != self.nan_code
        if unused.any():
            raise ValueError(f"code {int(given[unused].flat[0]):#04x} stands for no value of {self.name}")
        each = group(self.scale, given.shape).per_element(found, given.shape)
        return np.asarray(np.ldexp(self._decoded[given], each).astype(np.float32))

    @cached_property
    def _decoded(self) -> NDArray[np.float64]:
        """The value of every code at T = 0; NaN where there is none."""
        decoded = np.full(1 << self.bits, np.nan)
        decoded[: len(self.values)] = self._values
        if self.signed:
            index = np.flatnonzero(self._values)
            decoded[
                (1 << self.bits) - index if self.two_complement else index + (1 << (self.bits - 1))
            ] = -self._values[index]
        return decoded


def from_codebook(
    values: Iterable[float], signed: bool = False, bits: int | None = None, name: str | None = None
) -> CodebookFormat:
    """A format from its values: all of them, or with `signed` the magnitudes. Sorted here, and each rounded to float32.

    bits: the width of a code; by default the fewest that hold all. name: by default one made from the content.
    Raises ValueError for values that are not finite, that repeat, or that the bits do not hold.

    >>> from formats.kinds.codebook_format import from_codebook
    >>> from_codebook([0, 0.25, 0.5, 1.0], signed=True, name="table").bits
    3
    """
    with np.errstate(over="ignore"):
        numbers = np.sort(np.array(list(values), np.float64).astype(np.float32).astype(np.float64))
    if bits is None:
        bits = max(1, int(signed) + (len(numbers) - 1).bit_length())
    made = CodebookFormat(tuple(numbers.tolist()), bits, signed, name=name or "")
    if not name:
        object.__setattr__(made, "name", f"codebook:{made.digest[:8]}")
    return made


NF4 = CodebookFormat(
    (
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ),
    4,
    name="NF4",
)
"""The 4-bit NormalFloat of QLoRA: quantiles of the normal distribution, not symmetric, zero exact."""


def _positive_posits(bits: int, es: int) -> NDArray[np.float64]:
    """The values of the posit codes 0 to 2^(bits-1) - 1, exactly (Posit standard 2022, section 3)."""
    body = np.arange(1, 1 << (bits - 1), dtype=np.int64)  # without the sign bit, which is 0
    width = bits - 1
    ones = body >> (width - 1) == 1
    # The regime is a run of equal bits and the first different one: where the run ends is the length of what follows
    # it.
    _, rest = np.frexp(np.where(ones, ~body & ((1 << width) - 1), body).astype(np.float64))
    run = width - rest.astype(np.int64)
    regime = np.where(ones, run - 1, -run)
    left = np.maximum(width - run - 1, 0)
    tail = body & ((1 << left) - 1)
    # Exponent bits that fell off the end are zeros.
    exponent = np.where(left >= es, tail >> np.maximum(left - es, 0), tail << np.maximum(es - left, 0))
    fraction_bits = np.maximum(left - es, 0)
    fraction = tail & ((1 << fraction_bits) - 1)
    values = np.ldexp(
        (fraction + (1 << fraction_bits)).astype(np.float64), regime * (1 << es) + exponent - fraction_bits
    )
    return np.concatenate([np.zeros(1), values])


@lru_cache(maxsize=64)
def posit(bits: int, es: int) -> CodebookFormat:
    """posit<bits,es>: the posits of 2 to 16 bits with `es` exponent bits whose values are all float32 numbers.

    Source: Standard for Posit Arithmetic (2022), which fixes es = 2. Rounding follows its section 4: x between the
    neighbours u < w is compared with the posit of one bit more whose code is that of u followed by a 1; at a tie the
    even code is taken. So between regimes,
    and where exponent bits are cut off, the boundary is not the arithmetic mean: posit<6,1> has 64 and 256 with 128
    between them, not 160.
    What is not zero never rounds to zero, and nothing rounds to NaR: magnitudes beyond the largest saturate, infinities
    too (docs/definitions/formats.md section 1; the standard itself would make infinities NaR). NaN encodes as NaR, code
    2^(bits-1). Codes are two's complement.

    `top` multiplies by 2^top, as for every codebook; `top=0` gives the posits themselves.
    Raises ValueError for bits outside 2 to 16 or values outside float32.

    >>> import formats, numpy as np
    >>> formats.posit(8, 2).round(np.float32([3.14159, 1e-30, 1e30]), top=0).tolist()
    [3.25, 5.960464477539063e-08, 16777216.0]
    """
    if not 2 <= bits <= 16 or not 0 <= es <= 6:
        raise ValueError(f"posit<{bits},{es}>: 2 to 16 bits and es of 0 to 6 are allowed")
    if (bits - 2) << es > FLOAT32_LARGEST_EXPONENT:
        raise ValueError(
            f"posit<{bits},{es}>: values up to 2^{(bits - 2) << es} are not float32 numbers; (bits - 2) * 2^es <= 127 is needed"
        )
    # The codes of one bit more are in turn these posits and the boundaries above them.
    finer = _positive_posits(bits + 1, es)
    return CodebookFormat(
        values=tuple(finer[::2].tolist()),
        bits=bits,
        signed=True,
        boundaries=tuple(finer[1:-1:2].tolist()),
        only_zero_is_zero=True,
        two_complement=True,
        nan_code=1 << (bits - 1),
        name=f"posit<{bits},{es}>",
    )
