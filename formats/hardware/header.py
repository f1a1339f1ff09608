"""A C header that encodes and decodes a format at one fixed scale, generated from its profile alone."""

from __future__ import annotations

from string import Template

from formats.kinds.profile_format import ProfileFormat
from formats.profile import FLOAT32_LARGEST_EXPONENT, written

BIAS = FLOAT32_LARGEST_EXPONENT
"""Of the exponent field of float32; also its largest exponent."""
UNUSED = 0x7FC00000
"""float32 pattern (the quiet NaN) that decoding gives for codes that stand for no value."""

HEADER = Template("""\
/* ${name}: ${described}.
 *
 * ${name}_encode: the code of the value nearest to x. A tie goes to the even multiple of the step of the binade that x
 * lies in (where binades keep one bit: up); below the smallest value the step is that value. Beyond the largest value,
 * infinities included, x saturates. Both zeros, and all that rounds to zero, give 0. NaN HAS NO CODE: it gives 0 too,
 * so test for it first where it can occur.
 * ${name}_decode: the value of a code; a quiet NaN for a code that stands for no value. Every value is a float,
 * exactly.
 *
 * Codes: ${codes}.
 * Magnitude indices: 0 is zero, then ascending. Integer arithmetic only: neither the rounding mode nor flush-to-zero
 * changes a result.
 */
#ifndef ${name}_H
#define ${name}_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if FLT_RADIX != 2 || FLT_MANT_DIG != 24 || FLT_MAX_EXP != 128
#error "float must be IEEE 754 binary32"
#endif

/* Of each binade, the top one first: how many significant bits it keeps, and the index of its first magnitude. */
static const uint8_t ${name}_kept[${binades}] = {
${kept}
};
static const uint16_t ${name}_first[${binades}] = {
${first}
};

static inline ${code} ${name}_encode(float x)
{
    uint32_t bits, significand, index;
    int32_t exponent, binade;

    memcpy(&bits, &x, sizeof bits);
    significand = bits & 0x7FFFFFu;
    exponent = (int32_t)(bits >> 23 & 0xFFu);
    if (exponent == 255 && significand != 0)
        return 0; /* NaN */
${subnormal_inputs}    binade = ${field} - exponent;
    if (binade < 0) {
        index = ${last}; /* saturates */
    } else if (binade > ${binades}) {
        index = 0;
    } else if (binade == ${binades}) {
        /* One binade below the smallest value: half of it goes to zero, more to it. */
        index = significand > 0x800000u;
    } else {
        const uint32_t drop = 24u - ${name}_kept[binade];
        const uint32_t half = (uint32_t)1 << (drop - 1u);
        const uint32_t rest = significand & (2u * half - 1u);
        uint32_t multiple = significand >> drop;

        if (rest > half || (rest == half && (multiple & 1u)))
            multiple++;
        /* Rounded up to the next binade, this is the index of that one's first magnitude. */
        index = ${name}_first[binade] + multiple - ((uint32_t)1 << (${name}_kept[binade] - 1u));
        if (index > ${last})
            index = ${last};
    }
    if (index != 0 && bits >> 31)
        index = ${negated};
    return (${code})index;
}

static inline float ${name}_decode(${code} code)
{
    const uint32_t wide = code;
    const uint32_t sign = wide >> ${sign_shift};
    uint32_t index = ${index};
    uint32_t bits = 0;
    float value;

    if (sign > 1u || index > ${highest}${minus_zero}) {
        bits = 0x${unused}u;
    } else if (index != 0) {
        uint32_t binade = 0, offset, drop;
        int32_t exponent;

        while (index < ${name}_first[binade])
            binade++;
        offset = index - ${name}_first[binade];
        drop = 24u - ${name}_kept[binade];
        exponent = ${field} - (int32_t)binade;
${compose}        bits |= sign << 31;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
""")

SUBNORMAL_INPUTS = """\
    if (exponent == 0) {
        if (significand == 0)
            return 0;
        for (exponent = 1; significand < 0x800000u; exponent--)
            significand <<= 1;
    } else {
        significand |= 0x800000u;
    }
"""
NORMAL_INPUTS = """\
    /* Subnormal numbers are below half the smallest value, so the leading bit that they do not have does not matter. */
    significand |= 0x800000u;
"""
NORMAL_VALUES = """\
        bits = ((uint32_t)exponent << 23) + (offset << drop);
"""
SUBNORMAL_VALUES = """\
        if (exponent > 0)
            bits = ((uint32_t)exponent << 23) + (offset << drop);
        else /* a subnormal float; the scale is such that no bit is lost */
            bits = (((uint32_t)1 << 23 >> drop) + offset) << ((int32_t)drop + exponent - 1);
"""


def header_text(format: ProfileFormat, top: int, name: str) -> str:
    """NAME.h for a format with one scale, at a top exponent."""
    bits, half = format.bits, 1 << (format.bits - 1)
    sizes = [1 << (p - 1) for p in format.profile]
    last = sum(sizes)
    field = top + BIAS  # the exponent field of the top binade
    if format.two_complement:
        codes = f"{bits}-bit two's complement multiples of the step; -{half} decodes, but no x gives it"
        negated, index, highest, minus_zero = f"{2 * half}u - index", f"sign ? {2 * half}u - wide : wide", half, ""
    else:
        spare = f", and so are indices above {last}" if format.spare_codes else ""
        codes = f"sign << {bits - 1} | magnitude index; {half} (minus zero) is unused{spare}"
        negated, index, highest, minus_zero = (
            f"index | {half}u",
            f"wide & {half - 1}u",
            last,
            " || (sign && index == 0)",
        )
    return HEADER.substitute(
        name=name,
        described=described(format, top),
        codes=codes,
        code="uint8_t" if bits <= 8 else "uint16_t",
        binades=format.binades,
        kept=_initializer(list(format.profile)),
        first=_initializer([1 + sum(sizes[d + 1 :]) for d in range(len(sizes))]),
        field=field,
        subnormal_inputs=NORMAL_INPUTS if field > format.binades else SUBNORMAL_INPUTS,
        last=f"{last}u",
        negated=negated,
        sign_shift=bits - 1,
        index=index,
        highest=f"{highest}u",
        minus_zero=minus_zero,
        unused=f"{UNUSED:08X}",
        compose=NORMAL_VALUES if field >= format.binades else SUBNORMAL_VALUES,
    )


def described(format: ProfileFormat, top: int) -> str:
    """What a format is at a top exponent, as comments of generated files say it."""
    # Not its name, which a caller may have chosen and which may hold what ends a comment.
    return f"profile:{format.bits}:{written(format.profile)} at top exponent {top}"


def _initializer(numbers: list[int]) -> str:
    """Lines of a C initializer, 16 numbers each."""
    return ",\n".join("    " + ", ".join(map(str, numbers[start : start + 16])) for start in range(0, len(numbers), 16))
