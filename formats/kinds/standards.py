"""Standard formats made from the fields of their codes: those of the table, minifloats, and P3109's."""

from __future__ import annotations

from functools import cache

from formats import profile as profiles
from formats.kinds.standard_format import StandardFormat
from formats.specials import NanCodes
from formats.tables.standards import ROWS


def from_fields(
    name: str,
    exponent_bits: int,
    fraction_bits: int,
    bias: int,
    *,
    nan: NanCodes = NanCodes.NONE,
    infinities: bool = False,
    signed: bool = True,
    zero: bool = True,
    even_code_ties: bool = False,
) -> StandardFormat:
    """The format whose codes have these fields, gradual underflow, and these special codes (formats/tables/standards.py
    says how they are read)."""
    profile, top = profiles.minifloat(exponent_bits, fraction_bits), (1 << exponent_bits) - 1 - bias
    if not zero:
        profile = (*profile, 1)
    # Of the highest codes: IEEE's exponent field of ones, or NaN and infinity alone.
    taken = 1 << fraction_bits if nan is NanCodes.IEEE else int(nan is NanCodes.ONE) + int(infinities)
    while profile and taken >= 1 << (profile[0] - 1):
        taken -= 1 << (profile[0] - 1)
        profile, top = profile[1:], top - 1
    if not profile:
        raise ValueError(f"{name} has no positive value")
    return StandardFormat(
        profile=profile,
        bits=int(signed) + exponent_bits + fraction_bits,
        top=top,
        largest=(1 << profile[0]) - 1 - taken,
        infinities=infinities,
        nan=nan,
        negative_zero=signed and zero and nan is not NanCodes.MINUS_ZERO,
        signed=signed,
        zero=zero,
        even_code_ties=even_code_ties,
        name=name,
    )


@cache
def standard_formats() -> dict[str, StandardFormat]:
    """The formats of the table, by canonical name."""
    found = {}
    for row in ROWS:
        fields = row._asdict()
        del fields["source"], fields["also"]
        found[row.name] = from_fields(**fields)
    return found


def minifloat(x: int, y: int, *, bias: int) -> StandardFormat:
    """Sign, x exponent bits and y fraction bits with this bias: the profile of FP1xy at T = 2^x - 1 - bias.

    Gradual underflow, all codes finite values, minus zero; saturates. The E2M1 of OCP is minifloat(2, 1, bias=1).

    Args:
        x: 1 to 8.
        y: 0 or more.
        bias: any whole number at which all values are float32 numbers.

    Raises:
        ValueError: for widths outside 2 to 16 bits and for a bias at which values are not float32 numbers.

    Source:
        docs/definitions/formats.md section 5, the parametric form of OCP's and ml_dtypes' formats without special
        values.

    >>> import formats
    >>> formats.minifloat(2, 1, bias=1).magnitudes().tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """
    if not 1 <= x <= 8 or y < 0 or 1 + x + y > 16:
        raise ValueError(f"minifloat({x}, {y}): 1 to 8 exponent bits, and at most 16 bits with the sign, are allowed")
    return from_fields(f"minifloat({x},{y},bias={bias})", x, y, bias)


def p3109(bits: int, precision: int, *, signed: bool = True, extended: bool = True) -> StandardFormat:
    """P3109:k.p.{signed,unsigned}.{finite,extended}: k bits of which p are significant.

    One NaN (the code of minus zero, or without a sign the highest), no minus zero. With p = 1 a tie goes to the even
    code.

    Args:
        bits: k, 2 to 16.
        precision: p, 1 to k.
        signed: whether there is a sign bit.
        extended: the highest other codes are infinities.

    Raises:
        ValueError: for other k and p, and where the values are not float32 numbers or none is positive.

    Source:
        IEEE P3109 as gfloat 0.5.2's `format_info_p3109` has it; docs/definitions/formats.md section 5.
    """
    name = f"P3109:{bits}.{precision}.{'signed' if signed else 'unsigned'}.{'extended' if extended else 'finite'}"
    if not 2 <= bits <= 16 or not 1 <= precision <= bits:
        raise ValueError(f"{name}: 2 to 16 bits, and 1 to that many significant ones, are allowed")
    exponent_bits = bits - precision + int(not signed)
    return from_fields(
        name,
        exponent_bits,
        precision - 1,
        bias=(1 << exponent_bits) >> 1,
        nan=NanCodes.MINUS_ZERO if signed else NanCodes.ONE,
        infinities=extended,
        signed=signed,
        even_code_ties=precision == 1,
    )
