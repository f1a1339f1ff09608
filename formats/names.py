"""From any spelling of a name to the format."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from functools import cache, lru_cache

from formats import profile as profiles
from formats.families import catalogue
from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.codebooks import NF4, posit
from formats.kinds.integer_real import IntegerFormat
from formats.kinds.microscaling import microscaling_formats
from formats.kinds.nvfp4 import NVFP4, NVFP4Format
from formats.kinds.profile_format import ProfileFormat, from_profile
from formats.kinds.scaled_standards import RealStandardFormat, scaled_standard
from formats.kinds.standard_format import StandardFormat
from formats.kinds.standards import minifloat, p3109, standard_formats
from formats.number_format import NumberFormat
from formats.scale import LONGEST_BLOCK, Granularity, Scale, ScalePolicy
from formats.specials import Overflow
from formats.spelling import BLOCK_MINIFLOAT_SCALE, LOG4
from formats.tables.standards import ROWS

STANDARDS: tuple[str, ...] = (*(row.name for row in ROWS), NF4.name)
"""Canonical names without numbers to choose.

minifloat(x,y,bias=b), posit<n,es> and P3109:k.p.{signed,unsigned}.{finite,extended} are names as well.
"""
_MEANT = {
    "8": "E4M3/tensor, E4M3/row, E4M3/block128, E4M3/real or MXFP8-E4M3; of errors also E5M2/tensor or MXFP8-E5M2",
    "6": "MXFP6-E2M3, MXFP6-E3M2, E2M3/tensor or E3M2/tensor",
    "4": "NVFP4, MXFP4 or E2M1/tensor",
}
"""What FP8, FP6 and FP4 stand for in practice, each with a scale from the data."""
EXAMPLES = "Names look like INT8, FP134, T8.5x3@2, BM43, E4M3, MXFP4, profile:8:5x7,4,3,2,1"
"""How a line about an unknown name ends."""
Scaled = ProfileFormat | IntegerFormat | RealStandardFormat | NVFP4Format | CodebookFormat
"""Formats whose scale a name can change."""


def parse(given: str) -> NumberFormat:
    """The format of this name, in any spelling and case; ValueError that suggests the nearest names where there is
    none."""
    return _parse(given.strip().lower(), given)


@lru_cache(maxsize=2048)
def _parse(spelling: str, given: str) -> NumberFormat:
    fixed = standard(spelling)
    if fixed is not None:
        return fixed
    grid, *suffixes = spelling.split("/")
    found: Scaled | None
    of_grid, real = standard(grid), suffixes[:1] == ["real"]
    if real and (match := re.fullmatch(r"int(\d+)", grid)):
        found, suffixes = IntegerFormat(int(match[1])), suffixes[1:]
    elif real and isinstance(of_grid, StandardFormat):
        found, suffixes = RealStandardFormat(of_grid), suffixes[1:]
    elif grid == NVFP4.name.lower():
        found = NVFP4
    elif isinstance(of_grid, CodebookFormat):
        found = of_grid
    elif isinstance(of_grid, StandardFormat):
        found = scaled_standard(of_grid)
    else:
        found = {entry.name.lower(): entry for entry in microscaling_formats()}.get(grid) or _parse_grid(grid, given)
    if found is None:
        entries = (*catalogue(), *microscaling_formats())
        known = {name.lower(): name for name in (*(entry.name for entry in entries), *STANDARDS, NVFP4.name)}
        near = [known[match] for match in difflib.get_close_matches(grid, known, n=3, cutoff=0.5)]
        hint = f"did you mean {', '.join(near)}? " if near else ""
        if (width := re.fullmatch(r"(?:mx)?(?:fp|float)_?([468])", grid)) is not None:
            hint = f"that may be {_MEANT[width[1]]}. "
        elif (width := re.fullmatch(r"posit[_<]?(\d+)>?", grid)) is not None:
            hint = f"that may be posit<{width[1]},1> or posit<{width[1]},2>. "
        raise ValueError(f"unknown format {given!r}; {hint}{EXAMPLES}")
    for suffix in suffixes:
        found = found.with_scale(_parse_suffix(found.scale, suffix, given))
    return found


# Standards.


def standard(name: str) -> StandardFormat | CodebookFormat | None:
    """The standard of this name, in any case; None where it is the name of none.

    Names: those of `STANDARDS`, those by which ml_dtypes, torch and gfloat call them (float8_e4m3fn is E4M3,
    float8_e4m3 is E4M3IEEE), bf16, fp16; minifloat(4,3,bias=7), posit<8,2> or posit8,2; P3109:8.4.signed.extended or
    gfloat's p3109_k8p4se. Any but a codebook may end in "/standard", for overflow to infinity or NaN instead of
    saturation. Raises ValueError where a name with numbers asks for what there is not.

    >>> from formats.names import standard
    >>> standard("float8_e4m3fn").max()
    448.0
    """
    base, _, suffix = name.strip().lower().replace(" ", "").partition("/")
    found = _parse_standard(base)
    if not suffix:
        return found
    if suffix != Overflow.STANDARD or not isinstance(found, StandardFormat):
        return None
    return found.with_overflow(suffix)


@lru_cache(maxsize=256)
def _parse_standard(spelling: str) -> StandardFormat | CodebookFormat | None:
    if spelling in _spellings():
        return _spellings()[spelling]
    if match := re.fullmatch(r"minifloat\((\d+),(\d+),bias=(-?\d+)\)", spelling):
        return minifloat(int(match[1]), int(match[2]), bias=int(match[3]))
    if match := re.fullmatch(r"posit<(\d+),(\d+)>|posit(\d+),(\d+)", spelling):
        bits, es = (int(part) for part in match.groups() if part is not None)
        return posit(bits, es)
    if match := re.fullmatch(r"p3109:(\d+)\.(\d+)\.(signed|unsigned)\.(finite|extended)", spelling):
        return p3109(int(match[1]), int(match[2]), signed=match[3] == "signed", extended=match[4] == "extended")
    if match := re.fullmatch(r"p3109_k(\d+)p(\d+)([su])([fe])", spelling):
        return p3109(int(match[1]), int(match[2]), signed=match[3] == "s", extended=match[4] == "e")
    return None


@cache
def _spellings() -> dict[str, StandardFormat | CodebookFormat]:
    """Every spelling of the standards of the table, in lower case, and of NF4."""
    found: dict[str, StandardFormat | CodebookFormat] = {NF4.name.lower(): NF4}
    for row in ROWS:
        found |= dict.fromkeys((row.name.lower(), *row.also.lower().split()), standard_formats()[row.name])
    return found


# Profiles and their scales.


def _parse_grid(spelling: str, given: str) -> ProfileFormat | None:
    if match := re.fullmatch(r"int(\d+)", spelling):
        bits = int(match[1])
        if 2 <= bits <= 16:
            return from_profile(profiles.fixed(bits), bits)
    elif match := re.fullmatch(r"fp1(\d)(\d)", spelling):
        x, y = int(match[1]), int(match[2])
        if 1 <= x <= 8 and 2 <= 1 + x + y <= 16:
            return from_profile(profiles.minifloat(x, y), 1 + x + y)
    elif match := re.fullmatch(r"t(\d+)\.(\d+)x(\d+)@(\d+)", spelling):
        bits, upper, run, start = map(int, match.groups())
        if 3 <= bits <= 9:
            profile = profiles.tapered(bits, upper, run, start)
            if profile is not None:
                return from_profile(profile, bits)
    elif match := re.fullmatch(r"bm(?:<(\d),(\d)>|(\d)(\d))", spelling):
        e, m = (int(part) for part in match.groups() if part is not None)
        if m >= 1 and 2 <= 1 + e + m <= 9 and e <= 7:
            return from_profile(profiles.block_minifloat(e, m), 1 + e + m, scale=BLOCK_MINIFLOAT_SCALE)
    elif spelling == "log4":
        return from_profile(LOG4, 4)
    elif spelling.startswith("profile:"):
        return _parse_profile(spelling, given)
    return None


def _parse_profile(spelling: str, given: str) -> ProfileFormat:
    match = re.fullmatch(r"profile:(\d+):((?:\d+(?:x\d+)?)(?:,\d+(?:x\d+)?)*)", spelling)
    if match is None:
        raise ValueError(f"{given!r} does not read as profile:BITS:RUNS, such as profile:8:4x2,5x3,4x7,3,2,1")
    profile: list[int] = []
    for part in match[2].split(","):
        p, _, count = part.partition("x")
        times = int(count or 1)
        if not 1 <= times <= profiles.MOST_BINADES:
            raise ValueError(f"{given!r} repeats a binade {times} times; 1 to {profiles.MOST_BINADES} are allowed")
        profile += [int(p)] * times
    return from_profile(profile, int(match[1]))


def _parse_suffix(scale: Scale, suffix: str, given: str) -> Scale:
    if suffix == Granularity.TENSOR:
        return replace(scale, per=Granularity.TENSOR, block=None, axis=None)
    if match := re.fullmatch(r"row(?:@(-?\d+))?", suffix):
        return replace(scale, per=Granularity.BLOCK, block=LONGEST_BLOCK, axis=int(match[1] or -1))
    if match := re.fullmatch(r"channel(?:@(-?\d+))?", suffix):
        return replace(scale, per=Granularity.CHANNEL, block=None, axis=int(match[1] or 0))
    if match := re.fullmatch(r"block(\d+)(?:@(-?\d+))?", suffix):
        return replace(scale, per=Granularity.BLOCK, block=int(match[1]), axis=int(match[2] or -1))
    if match := re.fullmatch(r"tile(\d+)x(\d+)", suffix):
        return replace(scale, per=Granularity.BLOCK, block=(int(match[1]), int(match[2])), axis=None)
    if match := re.fullmatch(r"headroom(\d+)", suffix):
        return replace(scale, headroom=int(match[1]))
    if suffix in tuple(ScalePolicy):
        return replace(scale, policy=ScalePolicy(suffix))
    raise ValueError(
        f"unknown scale {suffix!r} in {given!r}; "
        "allowed are tensor, channel, channel@AXIS, row, row@AXIS, block32, block32@AXIS, tile48x48, ceil, even, "
        "rceil, headroom1"
    )
