"""What a number format costs in hardware: gates of one multiply-accumulate lane, from the precision profile, without
synthesis.

Units: NAND2 equivalents (the area of a two-input NAND gate). The lane is that of formats/hardware/lane.py, its hardware
what formats/hardware/verilog.py writes. Every part is a sum of quantities times fitted coefficients. With p significand
bits (bits of the code where both formats are INT), S the largest shift in binary places, s the bits of S, P = bits of
the product of significands, W = bits of the largest product in products of smallest steps, E = bits of a position in
the float accumulator, r runs of equal precision above the gradual underflow:

    multiplier    and * p_a p_b  +  adder * (p_a - 1)(p_b - 1)              an array of AND gates and full adders
                  + sign * (p_a + p_b) where both are INT                   two inverted rows and a constant
                                                                            (Baugh, Wooley 1973)
    aligner       mux * (P - 1) s  +  edge * S                              a logarithmic shifter: multiplexers,
                                                                            and gates where zeros come in
                  + adder * min(s_a, s_b)                                   the sum of both shifts
        float:    normalize * P ceil(log2 P)  +  position * (s_a + s_b)     a shifter that finds the leading bit,
                                                                            and the sum of the shifts
    accumulator   register * (W + CARRY_BITS + 1)  +  negate * W            adder, flip-flop and clear; from
                                                                            sign-magnitude to two's complement
        float:    sum * max(P, FLOAT_BITS)  +  position * E                 a floating-point adder, its register
    decoder       shift * s_a  +  run * (r_a - 1) s_a, and so for b         index to significand and shift: an
                                                                            offset, and a choice between runs
                  + absolute * bits of an INT                               from two's complement to sign-magnitude
        codebook: table_bit * bits of its different significands            a table
                  + table_shift * bits of the code * s

With the exact accumulator two INT formats are multiplied and added as they are: no aligner, no decoder, no `negate`,
and W has the sign. The array multiplier and the logarithmic shifter are textbook structures (N. Weste, D. Harris, "CMOS
VLSI Design", 4th edition, 2010, chapter 11). What surrounds the lane is in formats/hardware/totals.py: scales, rounding
a result back into a format, weights. Left out: infinities and NaN, wires, timing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from formats.hardware.lane import Accumulator, Lane, Operand, operand
from formats.pairs import Candidate, candidate, formats_of
from numeric_formats.checks import one_of


@dataclass(frozen=True)
class Coefficients:
    """NAND2 equivalents per quantity of the formula; the names are those of the module's description.

    The defaults are fitted by `python benchmarks/cost.py fit benchmarks/cost.csv`, on half of the lanes that Yosys 0.23
    mapped to CMOS gates there, weighed by transistors. The quantities were chosen with all of those lanes in view;
    formats that are not among them were never looked at. Those of tables are from benchmarks/periphery.py.
    """

    multiplier_and: float = 0.767
    multiplier_adder: float = 9.896
    multiplier_sign: float = 3.452
    aligner_mux: float = 2.645
    aligner_edge: float = 2.673
    aligner_normalize: float = 2.301
    aligner_adder: float = 5.471
    aligner_position: float = 7.563
    accumulator_register: float = 14.048
    accumulator_negate: float = 4.887
    accumulator_sum: float = 60.869
    accumulator_position: float = 39.599
    decoder_shift: float = 2.942
    decoder_run: float = 2.9
    decoder_absolute: float = 4.374
    decoder_table_bit: float = 0.433
    decoder_table_shift: float = 3.302

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"coefficient {name} is {value!r}; finite numbers from 0 on are allowed")


@dataclass(frozen=True)
class Cost:
    """NAND2 equivalents of a lane's parts; the decoder is both of its decoders."""

    multiplier: float
    aligner: float
    accumulator: float
    decoder: float

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return self.multiplier + self.aligner + self.accumulator + self.decoder


def quantities(of: Lane) -> dict[str, int]:
    """How often each coefficient counts in a lane, by its name in `Coefficients`, whose first word is the part."""
    a, b = of.a, of.b
    p, q = (a.bits, b.bits) if of.integer else (a.precision, b.precision)
    exact = of.accumulator is Accumulator.EXACT
    decoded = () if of.integer else (a, b)
    return {
        "multiplier_and": p * q,
        "multiplier_adder": (p - 1) * (q - 1),
        "multiplier_sign": p + q if of.integer else 0,
        "aligner_mux": (of.product_bits - 1) * of.shift.bit_length() if exact else 0,
        "aligner_edge": of.shift if exact else 0,
        "aligner_normalize": 0 if exact else of.product_bits * (of.product_bits - 1).bit_length(),
        "aligner_adder": min(a.shift_bits, b.shift_bits) if exact else 0,
        "aligner_position": 0 if exact else a.shift_bits + b.shift_bits,
        "accumulator_register": of.register_bits if exact else 0,
        "accumulator_negate": of.aligned_bits if exact and not of.integer else 0,
        "accumulator_sum": 0 if exact else of.sum_bits,
        "accumulator_position": 0 if exact else of.position_bits,
        "decoder_shift": sum(side.shift_bits for side in decoded if not side.table),
        "decoder_run": sum(max(len(side.runs) - 1, 0) * side.shift_bits for side in decoded),
        "decoder_absolute": sum(side.bits for side in decoded if side.two_complement),
        "decoder_table_bit": sum(_table_bits(side) for side in decoded),
        "decoder_table_shift": sum(side.bits * side.shift_bits for side in decoded if side.table),
    }


def _table_bits(of: Operand) -> int:
    """Bits of the different significands of a table, without zeros at their end."""
    odd = {entry.significand // (entry.significand & -entry.significand) for entry in of.table if entry.significand}
    return sum(significand.bit_length() for significand in odd)


def lane_cost(
    of: str | Candidate, accumulator: Accumulator | str = Accumulator.EXACT, coefficients: Coefficients = Coefficients()
) -> Cost:
    """The cost of a lane that multiplies two numbers of a format, or one of each format of a pair ("FP143+FP152").

    Formats of one profile and width have one lane, whatever their scale: BM43 that of FP143. A wide or custom profile
    extrapolates from 6 to 8 bits.

    Args:
        of: a format or a pair, or its name.
        accumulator: "exact" or "float", as formats/hardware/lane.py describes them.
        coefficients: NAND2 equivalents of the parts, by default as fitted.

    Returns:
        NAND2 equivalents, part by part.

    Raises:
        ValueError: for names that are no format's, formats that neither a profile nor a codebook describes, and
            standards without sign or zero.

    >>> lane_cost("FP134").total < lane_cost("FP143").total
    True
    """
    kind = one_of("accumulator", Accumulator, accumulator)
    a, b = formats_of(candidate(of))
    return _weigh(quantities(Lane(operand(a), operand(b), kind)), coefficients)


def _weigh(counts: dict[str, int], coefficients: Coefficients) -> Cost:
    parts = dict.fromkeys(("multiplier", "aligner", "accumulator", "decoder"), 0.0)
    for name, count in counts.items():
        parts[name.partition("_")[0]] += getattr(coefficients, name) * count
    return Cost(**parts)
