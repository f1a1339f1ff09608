"""What surrounds a multiply-accumulate lane: how scales enter a sum, how a sum becomes a code again, and where a weight
waits. Their Verilog: formats/hardware/periphery_verilog.py; their gates: formats/hardware/totals.py.

- A sum: within a group of numbers that share a scale the lane's register is exact. Where a scale changes within a
  product (blocks, tiles), the register is handed on at the end of each group: its leading bit is brought to the top,
  the exponents of both scales are added, real scales are multiplied, and a floating-point adder of SIGNIFICAND_BITS
  adds what the groups gave. With one scale a product the same is done once, without the adder.
- Conversion: the sum with its leading bit on top is rounded to nearest, ties to even, saturated, and encoded. Where the
  scale comes from data, a register keeps the largest magnitude of the group; real scales need a multiplication by the
  reciprocal, and one division a group.
- A weight waits in a register beside the lane; it comes from a master weight by the same conversion, of which nothing
  is to be brought to the top.

Values that wait until the scale of their group is known wait in memory, of which nothing is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from formats import (
    CodebookFormat,
    Format,
    IntegerFormat,
    NVFP4Format,
    ProfileFormat,
    RealStandardFormat,
    StandardFormat,
)
from formats.hardware.lane import element_of, operand
from formats.kinds.microscaling import MicroscalingFormat
from formats.kinds.scaled_standards import ScaledStandardFormat
from formats.scale import Granularity, Scale, ScalePolicy

SIGNIFICAND_BITS = 24
"""Significant bits of a sum that is handed on, float32's."""
EXPONENT_BITS = 10
"""Bits of its exponent, which is a signed number: float32's and those of two scales."""
SCALE_BITS = 8
"""Bits of a scale that is a power of two."""
REAL_SCALE_BITS = 32
"""Bits of a scale that is a float32 number."""


class Scaling(StrEnum):
    """What multiplies the elements of a format."""

    NONE = "none"
    POWER = "power of two"
    REAL = "real"
    NVFP4 = "E4M3"


@dataclass(frozen=True)
class Scaled:
    """How a format is scaled.

    scaling: by what. along: how many numbers that follow each other in a sum share a scale; None where a whole product
    does. group: how many numbers share it in all; None: a whole product's or more. magnitude: whether the scale needs
    the largest magnitude, not its exponent alone.
    """

    scaling: Scaling
    along: int | None
    group: int | None
    magnitude: bool


def scaled(format: Format) -> Scaled:
    """How a format is scaled; blocks run along the sum, and of a tile the columns do."""
    if isinstance(format, StandardFormat):
        return Scaled(Scaling.NONE, None, None, False)
    scale: Scale = getattr(format, "scale", Scale())
    kind = (
        Scaling.NVFP4
        if isinstance(format, NVFP4Format)
        else Scaling.REAL
        if isinstance(format, IntegerFormat | RealStandardFormat)
        else Scaling.POWER
    )
    magnitude = kind is not Scaling.POWER or scale.policy is not ScalePolicy.FLOOR
    if scale.per is not Granularity.BLOCK:
        return Scaled(kind, None, None, magnitude)
    rows, columns = scale.block if isinstance(scale.block, tuple) else (1, scale.block or 1)
    return Scaled(kind, columns, rows * columns, magnitude)


@dataclass(frozen=True)
class Section:
    """Neighbouring binades of one precision: the lowest, counted from the format's lowest; their significant bits; and
    the index of their lowest magnitude."""

    first: int
    precision: int
    start: int


@dataclass(frozen=True)
class Rounded:
    """The elements of a profile that a sum is rounded to.

    bits: of a code. binades: how many. precision: most significant bits of one. sections: those above gradual
    underflow, bottom first. most: the index of the largest magnitude. two_complement: codes are the numbers (INTn).
    minus_zero: whether -0 has a code.
    """

    bits: int
    binades: int
    precision: int
    sections: tuple[Section, ...]
    most: int
    two_complement: bool
    minus_zero: bool


@dataclass(frozen=True)
class Searched:
    """The values of a codebook that a sum is rounded to.

    bits: of a code. steps: the smallest number that goes up, for each boundary between two values, ascending. signed:
    whether they are of magnitudes. two_complement: whether the code of a negative value is less that of its magnitude.
    zero: whether the first value is zero.
    """

    bits: int
    steps: tuple[float, ...]
    signed: bool
    two_complement: bool
    zero: bool


Target = Rounded | Searched


def target(format: Format) -> Target:
    """What a sum is rounded to.

    Raises:
        ValueError: as `operand` does.
    """
    of, element = operand(format), element_of(format)
    if isinstance(element, CodebookFormat):
        steps = tuple(element._steps.tolist())
        return Searched(element.bits, steps, element.signed, element.two_complement, element.values[0] == 0)
    assert isinstance(element, ProfileFormat | StandardFormat)  # or it has no operand
    profile = element.profile
    first = of.linear
    sections: list[Section] = []
    for number, run in enumerate(of.runs):
        if number:
            first += (run.start - sections[-1].start) >> (sections[-1].precision - 1)
        sections.append(Section(first, run.precision, run.start))
    standard = isinstance(element, StandardFormat | ScaledStandardFormat | MicroscalingFormat)
    minus_zero = element.negative_zero if isinstance(element, StandardFormat) else standard and not of.two_complement
    return Rounded(
        bits=of.bits,
        binades=len(profile),
        precision=of.precision,
        sections=tuple(sections),
        most=len(element.magnitudes()) - 1,
        two_complement=of.two_complement,
        minus_zero=minus_zero,
    )
