"""The multiply-accumulate lane that a pair of formats needs: widths, shifts and the parts of its decoders, from the
profiles alone. Its Verilog: formats/hardware/verilog.py.

A lane multiplies one code of activations by one of errors in every clock and adds the product to a register, of one of
two kinds:

- exact: a fixed-point number that holds every product exactly (U. Kulisch, "Computer Arithmetic and Validity", de
  Gruyter 2008), and CARRY_BITS more so that sums of 2^CARRY_BITS products cannot overflow. The default, since the
  angles that formats are ranked by have no error of accumulation either.
- float: FLOAT_BITS significant bits, as the master format FP169 of Lee, Park, Jeon (ICLR 2022) has, rounded to nearest,
  ties to even, after every addition, with an exponent for the range of the exact register, so that nothing overflows or
  underflows.

Scales (the T of a tensor, channel or block) are applied outside of the lane and cost nothing here; so do infinities and
NaN of the standard formats, whose codes would need a test of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

import numpy as np

from formats import (
    CodebookFormat,
    Format,
    IntegerFormat,
    NVFP4Format,
    ProfileFormat,
    RealStandardFormat,
    StandardFormat,
    from_profile,
)
from formats.kinds.nvfp4 import ELEMENT
from formats.profile import Profile, fixed

CARRY_BITS = 12
"""2^12 = 4096 products of largest magnitude fit the accumulator."""
FLOAT_BITS = 10
"""Significant bits of a float accumulator, the leading one included."""


class Accumulator(StrEnum):
    """What a lane adds products up in."""

    EXACT = "exact"
    FLOAT = "float"


@dataclass(frozen=True)
class Run:
    """Neighbouring binades of one precision.

    start: the lowest magnitude index. precision: significant bits. step: log2 of the step of the lowest of these
    binades, in steps of the format.
    """

    start: int
    precision: int
    step: int


@dataclass(frozen=True)
class Entry:
    """What a code of a codebook stands for: (-1)^negative * significand * 2^shift steps."""

    negative: bool
    significand: int
    shift: int


@dataclass(frozen=True)
class Operand:
    """What a lane has to know of a format: each magnitude is significand * 2^shift steps.

    bits: of a code. precision: bits of the significand. shift: the largest shift. largest: the largest magnitude, in
    steps.
    linear: the magnitude indices below 2^linear are their own significands, at the shift linear_step (gradual
    underflow).
    runs: the binades above those, bottom first. two_complement: codes are the numbers (INTn).
    table: of a codebook, what each code stands for (nothing: 0); it has neither a linear part nor runs.
    """

    bits: int
    precision: int
    shift: int
    largest: int
    linear: int
    linear_step: int
    runs: tuple[Run, ...]
    two_complement: bool
    table: tuple[Entry, ...] = ()

    @property
    def shift_bits(self) -> int:
        """Bits of the shift; none where nothing is shifted."""
        return self.shift.bit_length()


def element_of(format: Format) -> Format:
    """What a lane multiplies: the elements, whatever their scale."""
    if isinstance(format, NVFP4Format):
        return ELEMENT
    if isinstance(format, RealStandardFormat):
        return format.element
    if isinstance(format, IntegerFormat):
        return from_profile(fixed(format.bits), format.bits)
    return format


def operand(format: Format) -> Operand:
    """What a lane has to know of a format.

    Raises:
        ValueError: for a format that neither a precision profile nor a codebook describes, or a standard without sign
            or zero.
    """
    name, format = format.name, element_of(format)
    if isinstance(format, CodebookFormat):
        return _of_codebook(format)
    if not isinstance(format, ProfileFormat | StandardFormat):
        raise ValueError(f"{name} is neither a precision profile nor a codebook, from which hardware is made")
    if isinstance(format, StandardFormat) and not (format.signed and format.zero):
        raise ValueError(
            f"{format.name} has no {'zero' if format.signed else 'sign'}; a lane multiplies signed numbers and zero"
        )
    profile = format.profile
    steps = _steps(profile)
    linear = _linear(profile)
    return Operand(
        bits=format.bits,
        precision=max(profile),
        shift=max(steps),
        largest=max(((1 << p) - 1) << step for p, step in zip(profile, steps, strict=True)),
        linear=linear,
        linear_step=steps[-1],
        runs=_runs(profile, steps, linear),
        two_complement=isinstance(format, ProfileFormat) and format.two_complement,
    )


def _of_codebook(format: CodebookFormat) -> Operand:
    """Of a codebook: significands as long as the longest of its values, exactly."""
    ratios = [value.as_integer_ratio() for value in np.nan_to_num(format._decoded).tolist()]
    unit = max(denominator for _, denominator in ratios)
    whole = [numerator * (unit // denominator) for numerator, denominator in ratios]
    lowest = min((value & -value).bit_length() - 1 for value in whole if value)
    whole = [value >> lowest for value in whole]
    odd = [abs(value) // (value & -value) for value in whole if value]
    precision = max(value.bit_length() for value in odd)
    shifts = [max(abs(value).bit_length() - precision, 0) for value in whole]
    entries = [Entry(value < 0, abs(value) >> shift, shift) for value, shift in zip(whole, shifts, strict=True)]
    return Operand(
        bits=format.bits,
        precision=precision,
        shift=max(shifts),
        largest=max(map(abs, whole)),
        linear=0,
        linear_step=0,
        runs=(),
        two_complement=False,
        table=tuple(entries),
    )


def _steps(profile: Profile) -> list[int]:
    """log2 of each binade's step, in the format's smallest step."""
    exponents = [1 - d - p for d, p in enumerate(profile)]
    lowest = min(exponents)
    return [exponent - lowest for exponent in exponents]


def _linear(profile: Profile) -> int:
    """How many binades at the bottom keep 1, 2, 3, ... bits: one step for all. The last goes to the binades above it if
    they keep as many."""
    ascending = profile[::-1]
    count = 0
    while count < len(ascending) and ascending[count] == count + 1:
        count += 1
    return count - 1 if count < len(ascending) and count > 0 and ascending[count] == count else count


def _runs(profile: Profile, steps: list[int], linear: int) -> tuple[Run, ...]:
    runs = []
    start = 1 << linear
    body = list(zip(profile, steps, strict=True))[::-1][linear:]
    for precision, group in groupby(body, key=lambda entry: entry[0]):
        binades = list(group)
        runs.append(Run(start, precision, binades[0][1]))
        start += len(binades) << (precision - 1)
    return tuple(runs)


@dataclass(frozen=True)
class Lane:
    """The widths of a lane for two operands."""

    a: Operand
    b: Operand
    accumulator: Accumulator = Accumulator.EXACT

    @property
    def integer(self) -> bool:
        """Whether codes are multiplied and added in two's complement, without decoders and shifter."""
        return self.a.two_complement and self.b.two_complement and self.accumulator is Accumulator.EXACT

    @property
    def product_bits(self) -> int:
        """Bits of the product of two significands; of two codes where they are integers, the sign included."""
        if self.integer:
            return self.a.bits + self.b.bits
        return (((1 << self.a.precision) - 1) * ((1 << self.b.precision) - 1)).bit_length()

    @property
    def aligned_bits(self) -> int:
        """Bits of the largest product in products of the smallest steps; without a sign, except where codes are
        integers."""
        return self.product_bits if self.integer else (self.a.largest * self.b.largest).bit_length()

    @property
    def shift(self) -> int:
        """The largest shift of a product."""
        return self.a.shift + self.b.shift

    @property
    def register_bits(self) -> int:
        """Bits of the exact register: the product, CARRY_BITS and a sign."""
        return self.aligned_bits + CARRY_BITS + (0 if self.integer else 1)

    @property
    def position_bits(self) -> int:
        """Bits of a float register's exponent, the position of the leading bit. Rounding up can reach one position more
        than the exact register has."""
        return (self.aligned_bits + CARRY_BITS).bit_length()

    @property
    def sum_bits(self) -> int:
        """Bits of significands that a float accumulator adds."""
        return max(self.product_bits, FLOAT_BITS)
