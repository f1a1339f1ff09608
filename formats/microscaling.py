"""OCP Microscaling formats: blocks of 32 elements that share a power-of-two scale.

Source: Open Compute Project, "OCP Microscaling Formats (MX) Specification", version 1.0, sections 5 and 6.
"""

from dataclasses import replace
from functools import cache

from formats import profile as profiles
from formats.format import Family, ProfileFormat
from formats.scale import Granularity, Scale, ScalePolicy
from formats.standards import StandardFormat, standard

BLOCK = 32
ELEMENTS = {
    "MXFP8-E4M3": "E4M3",
    "MXFP8-E5M2": "E5M2",
    "MXFP6-E3M2": "E3M2",
    "MXFP6-E2M3": "E2M3",
    "MXFP4": "E2M1",
}
LOWEST_SCALE, HIGHEST_SCALE = -127, 127
"""Of the E8M0 scale X = T - emax(element)."""


def _scale(emax: int) -> Scale:
    return Scale(per=Granularity.BLOCK, block=BLOCK, exponent_field=(LOWEST_SCALE + emax, HIGHEST_SCALE + emax))


@cache
def microscaling() -> tuple[ProfileFormat, ...]:
    """The six MX formats. Codes are those of the elements; a block's scale is its top exponent less the element's largest one.

    Not modelled: a block whose scale is NaN (0xFF), so `encode` raises ValueError on NaN; -0 encodes as zero.
    """
    found = []
    for name, element in ELEMENTS.items():
        entry = standard(element)
        assert isinstance(entry, StandardFormat)
        found.append(ProfileFormat(entry.profile, entry.bits, _scale(entry.top), name, Family.MICROSCALING, entry.largest))
    # MXINT8's integers have an implied scale of 2^-6, so a largest magnitude of 127 / 64 lies in binade 0.
    found.append(ProfileFormat(profiles.fixed(8), 8, _scale(0), "MXINT8", Family.MICROSCALING))
    return tuple(found)


def name_of(format: ProfileFormat, suffix: str) -> str | None:
    """The name of an MX format, with another policy or headroom perhaps; None where it is none."""
    for entry in microscaling():
        plain = replace(format.scale, headroom=0, policy=ScalePolicy.FLOOR)
        if (format.profile, format.bits, format.largest, plain) == (entry.profile, entry.bits, entry.largest, entry.scale):
            return entry.name + suffix
    return None
