"""From a format to the one canonical spelling of its name, and to its family."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from formats import profile as profiles
from formats.profile import Profile
from formats.scale import LONGEST_BLOCK, Granularity, Scale, ScalePolicy


class Family(StrEnum):
    """The families of the catalogue, and what lies outside them.

    Source:
        S. Lee, J. Park, D. Jeon, ICLR 2022 (the first four), and docs/definitions/formats.md sections 1 and 4.

    >>> import formats
    >>> formats.get("T8.5x3@2").family
    <Family.TAPERED: 'tapered'>
    """

    INT = "INT"
    FP = "FP"
    TAPERED = "tapered"
    BLOCK_MINIFLOAT = "BM"
    MICROSCALING = "MX"
    CUSTOM = "custom"


class OutsideFamily(StrEnum):
    """The families of formats outside the 498, beside `formats.Family`."""

    STANDARD = "standard"
    CODEBOOK = "codebook"


LOG4: Profile = (1,) * 7
"""The paper's logarithmic 4-bit weights."""
BLOCK_MINIFLOAT_SCALE = Scale(per=Granularity.BLOCK, block=(48, 48), exponent_field=(-127, 127))
"""Of the BM formats: tiles whose shared exponent has 8 bits."""


def name_and_family(profile: Profile, bits: int, scale: Scale = Scale()) -> tuple[str, Family]:
    """The canonical name of a profile at a width and scale, and the family it belongs to; ValueError for an unsupported
    width."""
    profiles.check_bits(bits)
    if replace(scale, headroom=None, policy=ScalePolicy.FLOOR) == BLOCK_MINIFLOAT_SCALE:
        for e in range(bits - 1):
            if profiles.block_minifloat(e, bits - 1 - e) == profile:
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
        runs = "row" if scale.block == LONGEST_BLOCK else f"block{scale.block}"
        parts.append(runs + ("" if scale.axis == -1 else f"@{scale.axis}"))
    return "".join(f"/{part}" for part in parts) + policy_suffix(scale)


def policy_suffix(scale: Scale) -> str:
    """How a name says the policy and headroom of a scale, where they are not the default ones."""
    policy = "" if scale.policy is ScalePolicy.FLOOR else f"/{scale.policy.value}"
    return policy + ("" if scale.headroom is None else f"/headroom{scale.headroom}")
