"""Names: from a format to the one canonical spelling, and from any spelling to the format."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from formats import profile as profiles
from formats.kinds.profile_format import Family, ProfileFormat
from formats.number_format import Format
from formats.profile import Profile
from formats.scale import Granularity, Scale, ScalePolicy

LOG4: Profile = (1,) * 7
"""The paper's logarithmic 4-bit weights."""
BLOCK_MINIFLOAT_SCALE = Scale(per=Granularity.BLOCK, block=(48, 48), exponent_field=(-127, 127))


def name_and_family(profile: Profile, bits: int, scale: Scale = Scale()) -> tuple[str, Family]:
    """The canonical name of a profile at a width and scale, and the family it belongs to; ValueError for an unsupported
    width."""
    profiles.check_bits(bits)
    if replace(scale, headroom=0, policy=ScalePolicy.FLOOR) == BLOCK_MINIFLOAT_SCALE:
        for e in range(bits - 1):
            if _block_minifloat_profile(e, bits - 1 - e) == profile:
                suffix = policy_suffix(scale)
                return f"BM{e}{bits - 1 - e}{suffix}", Family.BLOCK_MINIFLOAT
    if profile == LOG4:
        return "LOG4" + scale_suffix(scale), Family.CUSTOM
    name, family = _grid_name(profile, bits)
    return name + scale_suffix(scale), family


def _grid_name(profile: Profile, bits: int) -> tuple[str, Family]:
    if profile == profiles.fixed(bits):
        return f"INT{bits}", Family.INT
    for x in range(2, bits):
        # FP169 is the name of a standard, at a constant scale.
        if profiles.minifloat(x, bits - 1 - x) == profile and (x, bits) != (6, 16):
            return f"FP1{x}{bits - 1 - x}", Family.FP
    upper = max(profile)
    run, start = profile.count(upper), profile.index(upper)
    if profiles.tapered(bits, upper, run, start) == profile:
        return f"T{bits}.{upper}x{run}@{start}", Family.TAPERED
    return f"profile:{bits}:{profiles.written(profile)}", Family.CUSTOM


def scale_suffix(scale: Scale) -> str:
    """How a name says which elements share a scale, and its policy and headroom, where they are not the default
    ones."""
    parts = []
    if scale.per is Granularity.CHANNEL:
        parts.append("channel" if scale.axis == 0 else f"channel@{scale.axis}")
    if isinstance(scale.block, tuple):
        parts.append(f"tile{scale.block[0]}x{scale.block[1]}")
    elif scale.block is not None:
        parts.append(f"block{scale.block}" + ("" if scale.axis == -1 else f"@{scale.axis}"))
    return "".join(f"/{part}" for part in parts) + policy_suffix(scale)


def policy_suffix(scale: Scale) -> str:
    """How a name says the policy and headroom of a scale, where they are not the default ones."""
    policy = "" if scale.policy is ScalePolicy.FLOOR else f"/{scale.policy.value}"
    return policy + (f"/headroom{scale.headroom}" if scale.headroom else "")


def _block_minifloat_profile(e: int, m: int) -> Profile:
    return profiles.minifloat(e, m) if e else profiles.fixed(m + 1)


def get(name: str | Format) -> Format:
    """The format of this name, in any spelling and case; a format is returned as it is.

    Names: the standards of `formats.kinds.standard_format.standard` (E4M3, float8_e5m2, bf16, posit<8,2>, ...), MXFP4
    and the other MX formats, NVFP4; INT8, FP134 (sign, exponent, fraction bits), T8.5x3@2, BM43 or BM<4,3>,
    profile:8:4x2,5x3,4x7,3,2,1; and any of them, and codebooks, with
    another scale: FP134/channel, FP134/block32, INT8/tile16x16, FP134/headroom1, NF4/block64; INT8/real and
    INT8/real/channel have a scale that is no power of two. FILE.toml or FILE.py is the format that a file of one's own
    defines (`formats.load_formats`), FILE:NAME one of several.

    Raises ValueError that suggests the nearest names, or names what a file defines.

    >>> import formats
    >>> formats.get("fp116").name
    'INT8'
    """
    if not isinstance(name, str):
        if isinstance(name, Format):
            return name
        raise TypeError(f"{name!r} is neither a format's name nor an object with name, digest and round")
    if own := re.fullmatch(r"(.+\.(?:py|toml))(?::(.+))?", name.strip()):
        return _from_file(Path(own[1]), own[2])
    return _parse(name.strip().lower(), name)


def _from_file(path: Path, name: str | None) -> Format:
    """The format of this name in a file of the user's, or the only one; read anew each time, since files change."""
    from formats.from_file import load_formats

    found = load_formats(path)
    chosen = [entry for entry in found if name in (None, entry.name)]
    if len(chosen) != 1:
        raise ValueError(
            f"{path} defines {', '.join(entry.name for entry in found)}; one is needed here, as {path}:{found[0].name}"
        )
    return chosen[0]


@lru_cache(maxsize=2048)
def _parse(spelling: str, given: str) -> Format:
    from formats.families import catalogue
    from formats.kinds.codebook_format import CodebookFormat
    from formats.kinds.integer_real import IntegerFormat
    from formats.kinds.microscaling import microscaling
    from formats.kinds.nvfp4 import NVFP4, NVFP4Format
    from formats.kinds.standard_format import STANDARDS, standard

    fixed = standard(spelling)
    if fixed is not None:
        return fixed
    grid, *suffixes = spelling.split("/")
    found: ProfileFormat | IntegerFormat | NVFP4Format | CodebookFormat | None
    if suffixes[:1] == ["real"] and (match := re.fullmatch(r"int(\d+)", grid)):
        found, suffixes = IntegerFormat(int(match[1])), suffixes[1:]
    elif grid == NVFP4.name.lower():
        found = NVFP4
    elif isinstance(codebook := standard(grid), CodebookFormat):
        found = codebook
    else:
        found = {entry.name.lower(): entry for entry in microscaling()}.get(grid) or _parse_grid(grid, given)
    if found is None:
        entries = (*catalogue(), *microscaling())
        known = {name.lower(): name for name in (*(entry.name for entry in entries), *STANDARDS, NVFP4.name)}
        near = [known[match] for match in difflib.get_close_matches(grid, known, n=3, cutoff=0.5)]
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(
            f"unknown format {given!r}; {hint}Names look like INT8, FP134, T8.5x3@2, BM43, E4M3, MXFP4, profile:8:5x7,4,3,2,1"
        )
    for suffix in suffixes:
        found = found.with_scale(_parse_suffix(found.scale, suffix, given))
    return found


def _parse_grid(spelling: str, given: str) -> ProfileFormat | None:
    if match := re.fullmatch(r"int(\d+)", spelling):
        bits = int(match[1])
        if 2 <= bits <= 16:
            return _make(profiles.fixed(bits), bits)
    elif match := re.fullmatch(r"fp1(\d)(\d)", spelling):
        x, y = int(match[1]), int(match[2])
        if 1 <= x <= 8 and 2 <= 1 + x + y <= 16:
            return _make(profiles.minifloat(x, y), 1 + x + y)
    elif match := re.fullmatch(r"t(\d+)\.(\d+)x(\d+)@(\d+)", spelling):
        bits, upper, run, start = map(int, match.groups())
        if 3 <= bits <= 9:
            profile = profiles.tapered(bits, upper, run, start)
            if profile is not None:
                return _make(profile, bits)
    elif match := re.fullmatch(r"bm(?:<(\d),(\d)>|(\d)(\d))", spelling):
        e, m = (int(part) for part in match.groups() if part is not None)
        if m >= 1 and 2 <= 1 + e + m <= 9 and e <= 7:
            return _make(_block_minifloat_profile(e, m), 1 + e + m, BLOCK_MINIFLOAT_SCALE)
    elif spelling == "log4":
        return _make(LOG4, 4)
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
    return _make(tuple(profile), int(match[1]))


def _make(profile: Profile, bits: int, scale: Scale = Scale()) -> ProfileFormat:
    values = profiles.check(profile)
    name, family = name_and_family(values, bits, scale)
    return ProfileFormat(values, bits, scale, name, family)


def _parse_suffix(scale: Scale, suffix: str, given: str) -> Scale:
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
        f"unknown scale {suffix!r} in {given!r}; allowed are channel, channel@AXIS, block32, block32@AXIS, tile48x48, ceil, even, rceil, headroom1"
    )
