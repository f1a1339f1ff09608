"""What a number format costs in hardware, all in all: gates of a multiply-accumulate with its share of scales,
conversion and the weight's register; energy; and bytes of memory.

Units: NAND2 equivalents, as formats/hardware/cost.py has them for the lane; what the other parts are:
formats/hardware/periphery.py. What is needed once in n multiply-accumulates counts as 1/n of its gates, as if n lanes
shared it. With W bits of the lane's register, L = ceil(log2 W), p significand bits, n bits of a code:

    hand over     normalize_bit * W  +  normalize_shift * W L           absolute value, leading bit to the top
    quantizer     round_shift * (p + 1) ceil(log2(p + 2))               significand to the bits of its binade
                  + round_index * n                                     index, saturation
                  + round_section * (sections - 1) * n                  choice between runs of equal precision
                  + round_level                                         exponent against the scale
        codebook: search_boundary * boundaries  +  search_level         a comparison with each
                  + search_bit * bits of their different significands
    maximum       maximum * bits compared                               8 bits of exponent for the floor rule, else 31
    scales        adder * 8, multipliers as in the lane                 two exponents, and products of significands:
                                                                        24 bits of real scales, 4 of E4M3
    outer         outer                                                 a floating-point adder of 24 bits
    reciprocal    divide * 24                                           one bit a clock
    weight        weight * n                                            a register that is loaded

A float accumulator has its leading bit on top: it is handed on as it is. The lane of a format with blocks is that of
the format without, though its register needs fewer carry bits.

Energy: gates times FEMTOJOULES, which are those of integer arithmetic in 45 nm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from formats.hardware.cost import Coefficients, Cost, lane_cost
from formats.hardware.lane import Accumulator, Lane, element_of, operand
from formats.hardware.periphery import (
    EXPONENT_BITS,
    REAL_SCALE_BITS,
    SCALE_BITS,
    SIGNIFICAND_BITS,
    Rounded,
    Scaled,
    Scaling,
    Target,
    scaled,
    target,
)
from formats.kinds.nvfp4 import BLOCK_SCALE
from formats.kinds.standard_format import StandardFormat
from formats.number_format import Format, NumberFormat
from formats.pairs import Candidate, candidate, formats_of
from formats.scale import LONGEST_BLOCK, Granularity
from formats.specials import NanCodes
from numeric_formats.checks import one_of

PRODUCTS = 512
"""How many products a sum has, and how often a weight is used, before the next: a 3 x 3 convolution of 64 channels has
576, a transformer of width 576 as many."""
FEMTOJOULES = 0.38
"""Energy of a NAND2 equivalent an operation, in fJ, at 45 nm and 0.9 V.

The geometric mean over the four integer operations of M. Horowitz, "Computing's Energy Problem (and what we can do
about it)", ISSCC 2014, figure 1.1.9, of their energy over their gates by the formulas here: additions of 8 and 32 bits
(0.03 and 0.1 pJ), multiplications of 8 and 32 bits (0.2 and 3.1 pJ), which lie within 0.30 and 0.47. Its floating-point
operations need 0.45 to 1.0 fJ a gate of the adders and of the multipliers of significands here.
"""


@dataclass(frozen=True)
class PeripheryCoefficients:
    """NAND2 equivalents per quantity of the formula; the names are those of the module's description.

    The defaults are fitted by `python benchmarks/periphery.py fit benchmarks/periphery.csv`, on half of the parts that
    Yosys 0.23 mapped to CMOS gates there, weighed by transistors.
    """

    adder: float = 8.158
    normalize_bit: float = 20.442
    normalize_shift: float = 0.329
    round_shift: float = 1.755
    round_index: float = 14.768
    round_section: float = 1.578
    round_level: float = 48.364
    search_boundary: float = 5.302
    search_bit: float = 0.554
    search_level: float = 89.085
    maximum: float = 13.154
    outer: float = 1977.0
    divide: float = 21.693
    weight: float = 7.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"coefficient {name} is {value!r}; finite numbers from 0 on are allowed")


def normalizer_quantities(width: int) -> dict[str, int]:
    """How often each coefficient counts in what brings a register of so many bits to the top."""
    wide = max(width, SIGNIFICAND_BITS + 1)
    return {"normalize_bit": width, "normalize_shift": wide * (wide - 1).bit_length()}


def _significand(step: float) -> tuple[int, int]:
    """The significand of a boundary as an odd number, and its bits, as far as numbers that are handed on have them."""
    numerator, _ = step.as_integer_ratio()
    odd = abs(numerator) // max(numerator & -numerator, 1)
    odd >>= max(odd.bit_length() - SIGNIFICAND_BITS, 0)
    return odd, odd.bit_length()


def quantizer_quantities(of: Target) -> dict[str, int]:
    """How often each coefficient counts in what rounds to a format's elements."""
    if not isinstance(of, Rounded):
        return {
            "search_boundary": len(of.steps),
            "search_bit": sum(bits for _, bits in {_significand(step) for step in of.steps}),
            "search_level": 1,
        }
    p = of.precision
    return {
        "round_shift": (p + 1) * (p + 1).bit_length(),
        "round_index": of.bits,
        "round_section": max(len(of.sections) - 1, 0) * of.bits,
        "round_level": 1,
    }


@dataclass(frozen=True)
class TotalCost:
    """NAND2 equivalents of a multiply-accumulate, part by part, and what goes with them.

    lane: its four parts. scale: how scales enter the sum. conversion: from a sum to a code. weights: where a weight
    waits, and how it is made. bytes_per_value: of memory, its share of the scale included. not_counted: in words, what
    a format needs beside; "" where nothing.
    """

    lane: Cost
    scale: float
    conversion: float
    weights: float
    bytes_per_value: float
    not_counted: str

    @property
    def parts(self) -> dict[str, float]:
        """All parts, by name; they add up to the total."""
        return asdict(self.lane) | {"scale": self.scale, "conversion": self.conversion, "weights": self.weights}

    def as_dict(self) -> dict[str, float | str]:
        """The parts, `total`, `femtojoules`, `bytes_per_value` and `not_counted`."""
        return {
            **self.parts,
            "total": self.total,
            "femtojoules": self.femtojoules,
            "bytes_per_value": self.bytes_per_value,
            "not_counted": self.not_counted,
        }

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())

    @property
    def femtojoules(self) -> float:
        """Energy of a multiply-accumulate by its gates, in fJ; memory apart."""
        return FEMTOJOULES * self.total


@dataclass(frozen=True)
class _Gates:
    """Gates of what is made of the coefficients."""

    lane: Coefficients
    periphery: PeripheryCoefficients

    def of(self, counts: Mapping[str, float]) -> float:
        return sum(getattr(self.periphery, name) * count for name, count in counts.items())

    def multiplier(self, a: int, b: int) -> float:
        return self.lane.multiplier_and * a * b + self.lane.multiplier_adder * (a - 1) * (b - 1)

    def scales(self, significands: Sequence[int]) -> float:
        """Of the scales of one or both operands, given the bits of their significands: exponents are added,
        significands multiplied with each other and with the sum."""
        gates = self.of({"adder": SCALE_BITS}) if len(significands) == 2 else 0.0
        real = [bits for bits in significands if bits > 1]
        if len(real) == 2:
            gates += self.multiplier(*real)
        return gates + (self.multiplier(min(sum(real), SIGNIFICAND_BITS), SIGNIFICAND_BITS) if real else 0.0)

    def quantizer(self, format: Format, products: int) -> float:
        """From a number that is handed on to a code."""
        how = scaled(format)
        gates = self.of(quantizer_quantities(target(format)))
        if how.scaling is Scaling.NONE:
            return gates
        gates += self.of({"maximum": MAGNITUDE_BITS if how.magnitude else SCALE_BITS})
        if how.scaling is Scaling.POWER:
            return gates + self.of({"adder": EXPONENT_BITS})
        whole = self.multiplier(SIGNIFICAND_BITS, SIGNIFICAND_BITS)
        once = whole + self.of({"divide": SIGNIFICAND_BITS})
        if how.scaling is Scaling.NVFP4:
            once += self.of(quantizer_quantities(target(BLOCK_SCALE)))
            once += self.multiplier(BLOCK_SCALE.profile[0], SIGNIFICAND_BITS)
        return gates + whole + once / (how.group or products)


def total_cost(
    of: str | Candidate,
    accumulator: Accumulator | str = Accumulator.EXACT,
    products: int = PRODUCTS,
    coefficients: Coefficients = Coefficients(),
    periphery: PeripheryCoefficients = PeripheryCoefficients(),
) -> TotalCost:
    """What a multiply-accumulate of a format, or of one number of each format of a pair, costs with all around it.

    Args:
        of: a format or a pair, or its name. A weight has the format of activations; sums become codes of either, half
            of them each.
        accumulator: what the lane adds products up in.
        products: how many products a sum has, and how often a weight is used before the next.
        coefficients: of the lane.
        periphery: of what is around it.

    Returns:
        NAND2 equivalents, part by part, and bytes.

    Raises:
        ValueError: as `lane_cost` does, and for products below 1.

    >>> total_cost("BM25").lane == total_cost("FP125").lane
    True
    >>> total_cost("BM25").scale > total_cost("FP125").scale
    True
    """
    if products < 1:
        raise ValueError(f"products {products}: a sum has at least 1")
    kind = one_of("accumulator", Accumulator, accumulator)
    given = candidate(of)
    lane = lane_cost(given, kind, coefficients)
    sides, gates = formats_of(given), _Gates(coefficients, periphery)
    exact = kind is Accumulator.EXACT
    made = Lane(operand(sides[0]), operand(sides[1]), kind)
    to_top = gates.of(normalizer_quantities(made.register_bits)) if exact else 0.0
    how = [scaled(side) for side in sides]
    within = [side for side in how if side.along is not None and side.along < products]
    scale = gates.scales(_once_a_product(how, products)) / products
    if within:
        each = gates.scales([_SIGNIFICANDS[side.scaling] for side in within]) + to_top + gates.of({"outer": 1})
        scale += each / min(side.along for side in within if side.along is not None)
    handed = 0.0 if within else to_top
    codes = sum(gates.quantizer(side, products) for side in sides) / len(sides)
    weight = gates.of({"weight": made.a.bits}) + gates.quantizer(sides[0], products) / products
    return TotalCost(
        lane,
        scale,
        (handed + codes) / products,
        weight,
        bytes_of(given, products),
        "; ".join(dict.fromkeys(filter(None, map(_not_counted, sides)))),
    )


MAGNITUDE_BITS = 31
"""Bits that are compared where the largest magnitude is needed, float32's without the sign."""
_SIGNIFICANDS = {Scaling.POWER: 1, Scaling.NVFP4: BLOCK_SCALE.profile[0], Scaling.REAL: SIGNIFICAND_BITS}
"""Bits of the significand of a scale."""


def _once_a_product(how: Sequence[Scaled], products: int) -> list[int]:
    """Bits of the significands of scales that enter a sum at its end: those that a whole product has, and that of
    NVFP4's tensor."""
    found = []
    for side in how:
        if side.scaling is Scaling.NVFP4:
            found.append(SIGNIFICAND_BITS)
        elif side.scaling is not Scaling.NONE and (side.along is None or side.along >= products):
            found.append(_SIGNIFICANDS[side.scaling])
    return found


def _not_counted(format: Format) -> str:
    """What a format needs beside what is counted."""
    element = getattr(format, "element", element_of(format))
    special = isinstance(element, StandardFormat) and (element.infinities or element.nan is not NanCodes.NONE)
    return "infinities and NaN" if special or getattr(element, "nan_code", None) is not None else ""


def bytes_of(of: str | Candidate, products: int = PRODUCTS) -> float:
    """Bytes of memory a value, its share of its scale included; of a pair the mean; not a number where a format does
    not say how many bits it has.

    A scale is 8 bits, or 32 where it is a float32 number. One of a channel or row is shared by `products` values, one
    of a tensor by so many that it is nothing.

    >>> bytes_of("MXFP4"), bytes_of("NVFP4"), bytes_of("FP134")
    (0.53125, 0.5625, 1.0)
    """
    sides = formats_of(candidate(of))
    return sum(_bits_of(side, products) for side in sides) / len(sides) / 8


def _bits_of(format: Format, products: int) -> float:
    if not isinstance(format, NumberFormat):
        return float("nan")
    how = scaled(format)
    if how.scaling is Scaling.NONE or format.granularity is Granularity.TENSOR:
        return format.bits
    scale = REAL_SCALE_BITS if how.scaling is Scaling.REAL else SCALE_BITS
    long = how.group is None or how.along is None or how.group >= LONGEST_BLOCK
    return format.bits + scale / (products if long else how.group or 1)


def gates_of(of: str | Candidate) -> float:
    """The total of `total_cost`; not a number where a format has no lane."""
    found = cost_or_none(of)
    return float("nan") if found is None else found.total


def cost_or_none(of: str | Candidate, products: int = PRODUCTS) -> TotalCost | None:
    """`total_cost`, or None where a format has no lane."""
    try:
        return total_cost(of, products=products)
    except ValueError:
        return None
