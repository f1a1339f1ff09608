"""What a grid has to say, from its profile: range, precision, number of values, and the values with their codes."""

import math
from typing import Any

from formats.format import ProfileFormat
from formats.profile import magnitude_count, written


def _body(format: ProfileFormat) -> int:
    """Binades before gradual underflow: the profile ends in one bit less a binade from the last of them on."""
    profile, end = format.profile, format.binades
    while end > 1 and profile[end - 1] == format.binades - end + 1 and profile[end - 2] > profile[end - 1]:
        end -= 1
    return end


def describe(format: ProfileFormat, top: int = 0) -> dict[str, Any]:
    """Facts about a format at a top exponent: sizes as numbers, ranges in binades, decades and decibels."""
    largest, smallest = format.max(top), format.min_positive(top)
    ratio = math.log2(format.max(0)) - math.log2(format.min_positive(0))
    count = magnitude_count(format.profile)
    return {
        "name": format.name,
        "bits": format.bits,
        "family": format.family.value,
        "granularity": format.granularity.value,
        "profile": written(format.profile),
        "binades": format.binades,
        "top": top,
        "largest": largest,
        "smallest_normal": math.ldexp(1.0, top - _body(format) + 1),
        "smallest_positive": smallest,
        "epsilon": math.ldexp(1.0, 1 - max(format.profile)),
        "dynamic_range_binades": round(ratio, 2),
        "dynamic_range_decades": round(ratio * math.log10(2), 2),
        "dynamic_range_db": round(20 * ratio * math.log10(2), 1),
        "number_of_values": 2 * count - 1,
        "spare_codes": format.spare_codes,
        "digest": format.digest,
    }


def rows_of_values(format: ProfileFormat, top: int = 0) -> list[tuple[int, str, float]]:
    """Code, its bits, and the value, for every magnitude."""
    return [(index, f"{index:0{format.bits}b}", float(value)) for index, value in enumerate(format.magnitudes(top))]
