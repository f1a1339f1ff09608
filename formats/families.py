"""The 498 formats of 8, 7 and 6 bits that are ranked.

The paper (Lee, Park, Jeon, ICLR 2022, section 2.3) reports 498 formats after constraints and does not list them. The
rule here gives that number and holds every format that the paper and its code name.
"""

from functools import cache

from formats import profile as profiles
from formats.kinds.profile_format import ProfileFormat, from_profile
from formats.profile import Profile
from formats.spelling import BLOCK_MINIFLOAT_SCALE, Family

WIDTHS = (8, 7, 6)
FAMILIES = (Family.INT, Family.FP, Family.TAPERED, Family.BLOCK_MINIFLOAT)
MOST_BINADES = 25
BEYOND = {8: ((5, 2),), 7: ((5, 1),), 6: ()}
"""Exponent and fraction bits of minifloats that are standard and have more binades than that, by width."""
BLOCK_MINIFLOAT_EXPONENTS = {8: (0, 2, 3, 4, 5), 7: (0, 2, 3, 4, 5), 6: (0, 2, 3, 4)}


def _profiles(bits: int) -> set[Profile]:
    """All two-level profiles of this width with a gradual-underflow tail and at most 25 binades."""
    found: set[Profile] = set()
    for upper in range(2, bits):
        for run in range(1 << (bits - upper)):
            lower = (1 << (bits - upper + 1)) - 1 - 2 * run
            for start in range(lower + 1 if run else 1):
                profile = profiles.tapered(bits, upper, run, start)
                if profile is not None and len(profile) <= MOST_BINADES:
                    found.add(profile)
    return found


def _order(format: ProfileFormat) -> tuple[object, ...]:
    family = [*Family].index(Family(format.family))
    if format.family is Family.TAPERED:
        upper = max(format.profile)
        return (-format.bits, family, upper, format.profile.count(upper), format.profile.index(upper))
    return (-format.bits, family, format.name)


@cache
def _all() -> tuple[ProfileFormat, ...]:
    entries = []
    for bits in WIDTHS:
        beyond = {profiles.minifloat(*fields) for fields in BEYOND[bits]}
        entries += [from_profile(profile, bits) for profile in _profiles(bits) | beyond]
        for e in BLOCK_MINIFLOAT_EXPONENTS[bits]:
            profile = profiles.block_minifloat(e, bits - 1 - e)
            entries.append(from_profile(profile, bits, scale=BLOCK_MINIFLOAT_SCALE))
    return tuple(sorted(entries, key=_order))


def catalogue(bits: int | None = None, family: Family | str | None = None) -> tuple[ProfileFormat, ...]:
    """The 498 in their fixed order, or those of one width or family.

    Args:
        bits: 8, 7 or 6; None for all.
        family: INT, FP, tapered or BM, in any case; None for all.

    Raises:
        ValueError: for another width or family.

    Source:
        docs/definitions/formats.md section 4.

    >>> import formats
    >>> len(formats.catalogue()), len(formats.catalogue(bits=8, family="BM"))
    (498, 5)
    """
    if bits is not None and bits not in WIDTHS:
        raise ValueError(f"{bits} bits: the catalogue has {', '.join(map(str, WIDTHS))}")
    if family is not None:
        names = {entry.value.lower(): entry for entry in FAMILIES}
        if str(family).lower() not in names:
            raise ValueError(f"family {str(family)!r}: the catalogue has {', '.join(names.values())}")
        family = names[str(family).lower()]
    return tuple(
        entry for entry in _all() if (bits is None or entry.bits == bits) and (family is None or entry.family is family)
    )
