"""What a hardware engineer needs from a format: test vectors, a decode table and a C header, all at one fixed scale.

The vectors and the decode table are what the emulator says. The header is generated from the profile alone, by the
definition in docs/definitions/formats.md, section 3, so that comparing the two finds mistakes in either.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formats.hardware.header import UNUSED, described, header_text
from formats.kinds.microscaling import MicroscalingFormat
from formats.kinds.profile_format import ProfileFormat
from formats.number_format import Format
from formats.scale import Scale, check_top
from formats.spelling import name_and_family
from numeric_formats.files import write_atomically

INFINITY = 0x7F800000
SIGN = 0x80000000
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
      largest value, and the tie that would follow it, were there one more;
    - the zeros, float32's smallest, subnormal and largest numbers, and the infinities. NaN is not among them.

    Args:
        format: its rule for the scale plays no part.
        top: the top exponent of all elements.

    Returns:
        Of one dimension, in the order of the patterns: +0 to +infinity, then -0 to -infinity.

    Raises:
        ValueError: for a format without a profile, and a `top` outside `format.top_range`.
        TypeError: for a `top` that is no whole number.
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


def write_vectors(format: Format, folder: Path, top: int | None = None, *, force: bool = True) -> list[Path]:
    """Write NAME_vectors.csv, NAME_decode.hex and NAME.h for a format at one top exponent.

    NAME is the format's name with `_` for what no C identifier holds: T8_5x3_2.

    - NAME_vectors.csv: one line for each of `hard_inputs`, in hexadecimal digits: the float32 pattern of the input, the
      code, and the float32 pattern of the value that the code stands for. NaN has no code and no line.
    - NAME_decode.hex: for Verilog's $readmemh, the float32 pattern of each code in order; 7fc00000 (a NaN) for codes of
      no value.
    - NAME.h: NAME_encode and NAME_decode in C99 and C++. NAME_encode gives what `format.encode` gives, and 0 for NaN,
      for which that raises ValueError.

    Args:
        format: its own rule for the scale, the granularity included, plays no part.
        folder: made where it is missing.
        top: a whole number in `format.top_range`; by default 0, or what in that range is nearest to it.
        force: whether files that are there are replaced, each in one step.

    Returns:
        The paths, in the order above.

    Raises:
        ValueError: for a `top` outside `format.top_range`.
        TypeError: for a `top` that is no whole number.
        FileExistsError: with force=False, before anything is written.
        OSError: where the folder cannot be written.
    """
    if not isinstance(format, ProfileFormat):
        raise ValueError(f"{format.name} has no precision profile, of which vectors are made")
    if isinstance(format, MicroscalingFormat):
        raise ValueError(f"{format.name} has codes for its scales too; vectors are made of formats without")
    if top is None:
        low, high = format.top_range
        top = min(max(0, low), high)
    fixed, top = _fixed_scale(format, top)
    name = safe_name(format)
    texts = {
        f"{name}_vectors.csv": _vectors(fixed, top),
        f"{name}_decode.hex": _decode_table(fixed, top, name),
        f"{name}.h": header_text(fixed, top, name),
    }
    there = [folder / file for file in texts if (folder / file).exists()]
    if there and not force:
        raise FileExistsError(f"output {there[0]} exists; use --force to replace it")
    for file, text in texts.items():
        write_atomically(folder / file, text)
    return [folder / file for file in texts]


def safe_name(format: ProfileFormat) -> str:
    """The format's name (its canonical one where it has none) as a C identifier: T8.5x3@2 is T8_5x3_2."""
    name = format.name or name_and_family(format.profile, format.bits, format.scale)[0]
    safe = re.sub(r"[^0-9A-Za-z]+", "_", name)
    return safe if safe[0].isalpha() else f"format_{safe}"


def _fixed_scale(format: ProfileFormat, top: int) -> tuple[ProfileFormat, int]:
    """The format with one scale for all elements, under its own name, and `top` as an int; raises where the format does
    not allow it."""
    checked = check_top(top, (), format.top_range, format.name)
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
    about = (
        f"// {name}, {described(format, top)}: float32 pattern of each code from 0 to {2 * half - 1}; {UNUSED:08x} for "
        "unused ones"
    )
    return "\n".join([about, *lines, ""])
