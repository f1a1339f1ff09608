"""What a hardware engineer needs from a format: test vectors, a decode table and a C header, all at one fixed scale.

The vectors and the decode table are what the emulator says. The header is generated from the profile alone, by the
definition in docs/definitions/formats.md, section 3, so that comparing the two finds mistakes in either.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import replace
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from formats.kinds.profile_format import ProfileFormat
from formats.names import name_and_family
from formats.profile import FLOAT32_LARGEST_EXPONENT, written
from formats.scale import Scale

BIAS = FLOAT32_LARGEST_EXPONENT
"""Of the exponent field of float32; also its largest exponent."""
INFINITY = 0x7F800000
SIGN = 0x80000000
UNUSED = 0x7FC00000
"""float32 pattern (the quiet NaN) that decode tables hold for codes that stand for no value."""
EDGES_OF_FLOAT32 = (
    0,
    0x00000001,
    0x00000002,
    0x00400000,
    0x007FFFFF,
    0x00800000,
    0x00800001,
    0x7F7FFFFE,
    0x7F7FFFFF,
    INFINITY,
)
"""Patterns of zero, subnormal numbers from smallest to largest, the smallest normal ones, the largest and infinity."""


def hard_inputs(format: ProfileFormat, top: int) -> NDArray[np.float32]:
    """Every float32 at which rounding to this format at top exponent `top` could go wrong; of both signs, no pattern
    twice.

    - all values;
    - the midpoints of neighbours, where decisions change, each with the float32 on both sides (only those two where it
    is no float32);
    - with the same two: the powers of two from a quarter of the smallest value to four times the top binade's, the
    largest value, and the
      tie that would follow it, were there one more;
    - the zeros, float32's smallest, subnormal and largest numbers, and the infinities. NaN is not among them.

    The order is that of the patterns: +0 to +infinity, then -0 to -infinity. The scale rule of the format plays no
    part.

    Raises ValueError for a `top` outside `format.top_range`, TypeError where it is no whole number.
    """
    _, top = _fixed_scale(format, top)
    magnitudes = format.magnitudes(top)
    beyond = magnitudes[-1] + np.ldexp(1.0, top - format.profile[0])
    # Exact in float64: a value has at most 15 significant bits here, a midpoint one more.
    powers = np.ldexp(1.0, np.arange(top - format.binades - 1, top + 3))
    exact = np.concatenate([(magnitudes[1:] + magnitudes[:-1]) / 2, powers, [magnitudes[-1], beyond]])
    centres = _patterns(exact)
    # The pattern before and after is the next float32 towards and away from zero; beyond infinity are the NaNs.
    around = (centres[:, None] + np.array([-1, 0, 1])).clip(0, INFINITY)
    positive = np.unique(np.concatenate([_patterns(magnitudes), around.ravel(), EDGES_OF_FLOAT32]))
    return np.concatenate([positive, positive | SIGN]).astype(np.uint32).view(np.float32)


def write_vectors(format: ProfileFormat, folder: Path, top: int | None = None, *, force: bool = True) -> list[Path]:
    """Write NAME_vectors.csv, NAME_decode.hex and NAME.h for a format at one top exponent; returns their paths in this
    order.

    top: a whole number in `format.top_range`; by default 0, or what in that range is nearest to it. The format's own
    rule for the scale, its granularity included, plays no part. NAME is the format's name with `_` for what no C
    identifier holds: T8_5x3_2.

    NAME_vectors.csv: one line for each of `hard_inputs`, in hexadecimal digits: the float32 pattern of the input, the
    code, and the float32 pattern of the value that the code stands for. NaN has no code and no line. NAME_decode.hex:
    for Verilog's $readmemh, the float32 pattern of each code in order; 7fc00000 (a NaN) for codes of no value. NAME.h:
    NAME_encode and NAME_decode in C99 and C++. NAME_encode gives what `format.encode` gives, and 0 for NaN, for which
    that raises ValueError.

    Files that are there are replaced, each in one step, or with force=False refused with FileExistsError before
    anything is written; the folder is made where it is missing. Raises as `hard_inputs` does, and OSError.
    """
    if top is None:
        low, high = format.top_range
        top = min(max(0, low), high)
    fixed, top = _fixed_scale(format, top)
    name = safe_name(format)
    texts = {
        f"{name}_vectors.csv": _vectors(fixed, top),
        f"{name}_decode.hex": _decode_table(fixed, top, name),
        f"{name}.h": _header(fixed, top, name),
    }
    there = [folder / file for file in texts if (folder / file).exists()]
    if there and not force:
        raise FileExistsError(f"output {there[0]} exists; use --force to replace it")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        _write(folder / file, text)
    return [folder / file for file in texts]


def safe_name(format: ProfileFormat) -> str:
    """The format's name (its canonical one where it has none) as a C identifier: T8.5x3@2 is T8_5x3_2."""
    name = format.name or name_and_family(format.profile, format.bits, format.scale)[0]
    safe = re.sub(r"[^0-9A-Za-z]+", "_", name)
    return safe if safe[0].isalpha() else f"format_{safe}"


def _fixed_scale(format: ProfileFormat, top: int) -> tuple[ProfileFormat, int]:
    """The format with one scale for all elements, under its own name, and `top` as an int; raises where the format does
    not allow it."""
    checked = format._check_top(top, ())
    return replace(format, scale=Scale()), int(checked)


def _patterns(magnitudes: NDArray[np.float64]) -> NDArray[np.int64]:
    """float32 patterns of magnitudes, or of a nearest float32; infinity for what is too large."""
    with np.errstate(over="ignore", under="ignore"):
        return magnitudes.astype(np.float32).view(np.uint32).astype(np.int64)


def _digits(format: ProfileFormat) -> int:
    """Hexadecimal digits of a code."""
    return -(-format.bits // 4)


def _vectors(format: ProfileFormat, top: int) -> str:
    x = hard_inputs(format, top)
    codes = format.encode(x, top=top).codes
    values = format.decode(codes, top)
    digits = _digits(format)
    rows = zip(x.view(np.uint32).tolist(), codes.tolist(), values.view(np.uint32).tolist(), strict=True)
    lines = [f"{given:08x},{code:0{digits}x},{value:08x}" for given, code, value in rows]
    return "\n".join(["input_bits,output_code,output_bits", *lines, ""])


def _decode_table(format: ProfileFormat, top: int, name: str) -> str:
    half, last = 1 << (format.bits - 1), len(format.magnitudes()) - 1
    used = np.arange(2 * half)
    if not format.two_complement:
        used = used[(used % half <= last) & (used != half)]
    patterns = np.full(2 * half, UNUSED, np.uint32)
    # -2^(n-1) of fixed point is beyond float32 at its largest scale: an infinity, as in C.
    with np.errstate(over="ignore"):
        patterns[used] = format.decode(used, top).view(np.uint32)
    remarks = np.full(2 * half, " // unused", object)
    remarks[used] = ""
    if format.two_complement:
        remarks[half] = " // decodes, but no input has this code"
    lines = [f"{pattern:08x}{remark}" for pattern, remark in zip(patterns.tolist(), remarks, strict=True)]
    about = f"// {name}, {_described(format, top)}: float32 pattern of each code from 0 to {2 * half - 1}; {UNUSED:08x} for unused ones"
    return "\n".join([about, *lines, ""])


def _described(format: ProfileFormat, top: int) -> str:
    # Not the format's name, which a caller may have chosen and which may hold what ends a comment.
    return f"profile:{format.bits}:{written(format.profile)} at top exponent {top}"


HEADER = Template("""\
/* ${name}: ${described}.
 *
 * ${name}_encode: the code of the value nearest to x. A tie goes to the even multiple of the step of the binade that x lies in (where
 * binades keep one bit: up); below the smallest value the step is that value. Beyond the largest value, infinities included, x saturates.
 * Both zeros, and all that rounds to zero, give 0. NaN HAS NO CODE: it gives 0 too, so test for it first where it can occur.
 * ${name}_decode: the value of a code; a quiet NaN for a code that stands for no value. Every value is a float, exactly.
 *
 * Codes: ${codes}.
 * Magnitude indices: 0 is zero, then ascending. Integer arithmetic only: neither the rounding mode nor flush-to-zero changes a result.
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


def _header(format: ProfileFormat, top: int, name: str) -> str:
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
        described=_described(format, top),
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


def _initializer(numbers: list[int]) -> str:
    """Lines of a C initializer, 16 numbers each."""
    return ",\n".join("    " + ", ".join(map(str, numbers[start : start + 16])) for start in range(0, len(numbers), 16))


def _write(path: Path, text: str) -> None:
    """Write the file in one step: no reader, and no interruption, finds half of it."""
    # Opened plainly, not by tempfile, which makes files that only their owner can read.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="ascii", newline="\n") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
