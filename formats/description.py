"""What a format has to say: range, precision, number of values, and what its codes stand for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.families import catalogue
from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.integer_real import IntegerFormat
from formats.kinds.microscaling import MicroscalingFormat, microscaling_formats
from formats.kinds.nvfp4 import ELEMENT, NVFP4, NVFP4Format
from formats.kinds.profile_format import ProfileFormat
from formats.kinds.scaled_standards import RealStandardFormat, ScaledStandardFormat
from formats.kinds.standard_format import StandardFormat
from formats.lookup import get
from formats.names import STANDARDS
from formats.number_format import Format, NumberFormat
from formats.profile import Profile, fixed, written
from formats.scale import LONGEST_BLOCK, ScalePolicy
from formats.spelling import Family
from formats.tables.standards import ROWS

MOST_VALUES = 256
"""How many values are listed at the most."""
LISTED = ("name", "bits", "family", "granularity", "binades", "profile")
"""What a list says of a format of the catalogue."""
LISTED_STANDARDS = (*("name", "bits", "scale", "profile", "largest", "smallest_positive", "special_values", "also"),)
"""What a list says of a standard."""


def _body(profile: Profile) -> int:
    """Binades before gradual underflow: the profile ends in one bit less a binade from the last of them on."""
    end = len(profile)
    while end > 1 and profile[end - 1] == len(profile) - end + 1 and profile[end - 2] > profile[end - 1]:
        end -= 1
    return end


def _at(format: NumberFormat, top: int | None) -> tuple[NumberFormat, Profile | None, int]:
    """The format whose codes these are, its profile if it has one, and its top exponent: the one given, or the plainest
    there is."""
    if isinstance(format, NVFP4Format | StandardFormat | RealStandardFormat):
        element = _element(format)
        if top not in (None, element.top):
            raise ValueError(
                f"top {top} was given; the values of {format.name} are shown at top exponent {element.top} only"
            )
        return element, _profile(format), element.top
    if isinstance(format, IntegerFormat):
        if top is not None:
            raise ValueError(f"top {top} was given; the values of {format.name} are shown at a scale of 1 only")
        return format, _profile(format), format.bits - 2
    assert isinstance(format, ProfileFormat | CodebookFormat)
    low, high = format.top_range
    if top is None:
        plain = format.element.top if isinstance(format, ScaledStandardFormat) else 0
        top = min(max(format.emax if isinstance(format, MicroscalingFormat) else plain, low), high)
    if not low <= top <= high:
        raise ValueError(f"top {top} is outside {low} to {high}, where all values of {format.name} are float32 numbers")
    return format, _profile(format), top


def _element(format: NVFP4Format | StandardFormat | RealStandardFormat) -> StandardFormat:
    """The standard whose codes these are."""
    if isinstance(format, StandardFormat):
        return format
    return ELEMENT if isinstance(format, NVFP4Format) else format.element


def _of_codes(format: NumberFormat, top: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What each code stands for, and whether it stands for anything."""
    if isinstance(format, StandardFormat):
        known, values = format._decoded
        return values.astype(np.float64), known
    if isinstance(format, IntegerFormat):
        values = format.decode(np.arange(1 << format.bits))
        return values.astype(np.float64), np.ones(len(values), np.bool_)
    assert isinstance(format, ProfileFormat | CodebookFormat)
    decoded = np.ldexp(format._decoded[: 1 << format.bits], top)
    known = format.element._decoded[0] if isinstance(format, ScaledStandardFormat) else ~np.isnan(decoded)
    if isinstance(format, CodebookFormat) and format.nan_code is not None:
        known[format.nan_code] = True
    return decoded, known


def _runs(codes: NDArray[np.intp]) -> str:
    """Codes in hexadecimal, neighbours joined."""
    parts = np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1)
    return ", ".join(f"0x{part[0]:02X}" if len(part) == 1 else f"0x{part[0]:02X} to 0x{part[-1]:02X}" for part in parts)


def _scale(format: NumberFormat) -> str:
    """How the scale is found, in words."""
    if isinstance(format, StandardFormat):
        return "constant"
    scale = format.scale
    block = "x".join(map(str, scale.block)) if isinstance(scale.block, tuple) else scale.block
    group = "row" if block == LONGEST_BLOCK else f"block of {block}" if block else scale.per.value
    if isinstance(format, NVFP4Format):
        return f"E4M3 per {group}, float32 per tensor"
    if isinstance(format, IntegerFormat | RealStandardFormat):
        return f"real (float32) per {group}"
    kind = "E8M0" if isinstance(format, MicroscalingFormat) else "power of two"
    return f"{kind} per {group}, {scale.policy.value}" + (
        "" if scale.headroom is None else f", headroom {scale.headroom}"
    )


def overshoot(format: Format) -> float | None:
    """How many times its largest magnitude a number may come to under its scale by the floor rule; None under other
    scales."""
    if not isinstance(format, ProfileFormat | CodebookFormat) or format.scale.policy is not ScalePolicy.FLOOR:
        return None
    exponent = format.largest_exponent if isinstance(format, CodebookFormat) else 0
    return math.ldexp(1.0, exponent + 1 - format.scale.room) / float(format.magnitudes()[-1])


def outline(format: Format) -> dict[str, Any]:
    """What tells formats apart at a glance: `LISTED` but for the name, the profile as text; None, or nothing, where a
    format does not say."""
    if not isinstance(format, NumberFormat):
        return {"bits": None, "family": Family.CUSTOM.value, "granularity": "", "binades": None, "profile": ""}
    profile = _profile(format)
    return {
        "bits": format.bits,
        "family": str(getattr(format, "family", Family.CUSTOM)),
        "granularity": format.granularity.value,
        "binades": profile and len(profile),
        "profile": written(profile) if profile else "",
    }


def _profile(format: NumberFormat) -> Profile | None:
    """The profile of the values between two neighbouring powers of a scale; None where a format has none."""
    if isinstance(format, IntegerFormat):
        return fixed(format.bits)
    if isinstance(format, NVFP4Format | StandardFormat | RealStandardFormat):
        return _element(format).profile
    return format.profile if isinstance(format, ProfileFormat) else None


def describe(format: Any, top: int | None = None) -> dict[str, Any]:
    """Facts about a format of this package: sizes as numbers, ranges in binades, decades and decibels; None where there
    is no such thing.

    Args:
        format: of this package.
        top: the top exponent at which values are given; by default that of a standard or of an MX scale of 1, else 0,
            or what is nearest to it of those possible. Real scales and NVFP4's are 1.

    Returns:
        among others `epsilon`, the smallest distance from a power of two to the next value, relative to it;
        `overshoot`, how many times the largest magnitude a number may be that the scale lets come, above 1 saturating;
        `dynamic_range_...`, largest over smallest positive magnitude; `special_values`, what is no ordinary number,
        with its codes as text; `values`, pairs of code and value in the order of the codes, None where there are more
        than `MOST_VALUES`.

    Raises:
        ValueError: for a `top` that the format cannot have.
        TypeError: for formats of one's own, which say nothing about their values.
    """
    if not isinstance(format, NumberFormat):
        raise TypeError(f"{format.name} is not a format of this package; only its name and its rounding are known")
    element, profile, top = _at(format, top)
    decoded, known = _of_codes(element, top)
    codes = np.arange(len(decoded))
    special = {
        "inf": decoded == np.inf,
        "-inf": decoded == -np.inf,
        "NaN": known & np.isnan(decoded),
        "-0": (decoded == 0) & np.signbit(decoded),
    }
    if isinstance(element, IntegerFormat) or (isinstance(element, ProfileFormat) and element.two_complement):
        half = 1 << (element.bits - 1)
        special[f"{decoded[half]:.9g}, never produced"] = codes == half
    ordinary = np.isfinite(decoded) & ~np.any(list(special.values()), axis=0)
    magnitudes = np.sort(np.abs(decoded[ordinary]))
    # Without `numpy.unique`, which loads masked arrays.
    positive = magnitudes[np.diff(magnitudes, prepend=0) > 0]
    powers = np.flatnonzero(np.frexp(positive[:-1])[0] == 0.5)
    ratio = math.log2(positive[-1]) - math.log2(positive[0])
    count = int(ordinary.sum())
    return {
        "name": format.name,
        "bits": format.bits,
        "family": getattr(format, "family", None),
        "granularity": format.granularity.value,
        "scale": _scale(format),
        "overshoot": overshoot(format),
        "profile": profile and written(profile),
        "binades": profile and len(profile),
        "top": None if isinstance(format, IntegerFormat) else top,
        "largest": float(decoded[ordinary].max()),
        "lowest": float(decoded[ordinary].min()),
        "smallest_normal": profile and math.ldexp(1.0, top - _body(profile) + 1),
        "smallest_positive": float(positive[0]),
        "epsilon": float(np.min(positive[powers + 1] / positive[powers] - 1)) if len(powers) else None,
        "dynamic_range_binades": round(ratio, 2),
        "dynamic_range_decades": round(ratio * math.log10(2), 2),
        "dynamic_range_db": round(20 * ratio * math.log10(2), 1),
        "number_of_values": count,
        "special_values": {what: _runs(codes[where]) for what, where in special.items() if where.any()},
        "spare_codes": getattr(format, "spare_codes", None),
        "digest": format.digest,
        "values": None
        if count > MOST_VALUES
        else list(zip(codes[ordinary].tolist(), decoded[ordinary].tolist(), strict=True)),
    }


def standards() -> list[dict[str, Any]]:
    """The standards outside the 498, MX and NVFP4 among them: what `describe` says of each without its values, and its
    other names."""
    names = [*STANDARDS, *(entry.name for entry in microscaling_formats()), NVFP4.name]
    also = {row.name: row.also for row in ROWS}
    return [{**describe(get(name)), "values": None, "also": also.get(name, "")} for name in names]


def listed(bits: int | None = None, family: str | None = None, max_binades: int | None = None) -> list[dict[str, Any]]:
    """The catalogue's formats of a width and a family, with at most so many binades: `LISTED` of each.

    Raises:
        ValueError: The catalogue has no such width or family.
    """
    chosen = [entry for entry in catalogue(bits, family) if max_binades is None or entry.binades <= max_binades]
    return [{key: getattr(entry, key) for key in LISTED} for entry in chosen]


def listed_standards() -> list[dict[str, Any]]:
    """`LISTED_STANDARDS` of each of the standards outside the 498; special values without their codes."""
    return [
        {key: row[key] for key in LISTED_STANDARDS} | {"special_values": ", ".join(row["special_values"])}
        for row in standards()
    ]
