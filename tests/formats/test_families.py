"""The catalogue against the rule of docs/definitions/formats.md section 4, generated a second time by another route,
and all spellings of names."""

from collections import Counter
from itertools import product

import pytest

import formats
from tests.processes import python


def profiles_by_search(bits):
    """Every two-level profile of a width, by trying all bodies: no formula for their length, no names.

    A body is written as its levels; it must be a run of p inside p-1 on both sides, and the whole must use all
    2^(bits-1) magnitudes.
    """
    found = set()
    for upper in range(2, bits):
        tail = tuple(range(upper - 2, 0, -1))
        for before, run, after in product(range(26), repeat=3):
            profile = (upper - 1,) * before + (upper,) * run + (upper - 1,) * after + tail
            if len(profile) <= 25 and 1 + sum(2 ** (p - 1) for p in profile) == 2 ** (bits - 1):
                found.add(profile)
    return found


@pytest.mark.parametrize(("bits", "count"), [(8, 142), (7, 160), (6, 180)])
def test_the_profiles_are_those_of_the_rule(bits, count):
    expected = profiles_by_search(bits)
    assert len(expected) == count
    mine = {f.profile for f in formats.catalogue(bits=bits) if f.granularity == "tensor" and f.binades <= 25}
    assert mine == expected


def test_counts():
    catalogue = formats.catalogue()
    assert len(catalogue) == 498
    assert len({f.digest for f in catalogue}) == 498
    tensor = Counter(f.bits for f in catalogue if f.granularity == "tensor")
    assert tensor == {8: 143, 7: 161, 6: 180}
    assert [f.name for f in catalogue if f.family == "BM"] == [
        *("BM07", "BM25", "BM34", "BM43", "BM52"),
        *("BM06", "BM24", "BM33", "BM42", "BM51"),
        *("BM05", "BM23", "BM32", "BM41"),
    ]
    assert [f.name for f in catalogue if f.binades > 25 and f.granularity == "tensor"] == ["FP152", "FP151"]
    assert [f.name for f in catalogue if f.family in ("INT", "FP")] == [
        *("INT8", "FP125", "FP134", "FP143", "FP152"),
        *("INT7", "FP124", "FP133", "FP142", "FP151"),
        *("INT6", "FP123", "FP132", "FP141"),
    ]


def test_order():
    keys = []
    for f in formats.catalogue():
        family = ["INT", "FP", "tapered", "BM"].index(f.family)
        inner = (
            (max(f.profile), f.profile.count(max(f.profile)), f.profile.index(max(f.profile)))
            if family == 2
            else (f.name,)
        )
        keys.append((-f.bits, family, inner))
    assert keys == sorted(keys)


def test_known_profiles():
    known = {
        "INT8": (7, 6, 5, 4, 3, 2, 1),
        "FP134": (5,) * 7 + (4, 3, 2, 1),
        "FP143": (4,) * 15 + (3, 2, 1),
        "FP152": (3,) * 31 + (2, 1),
        "T8.5x3@2": (4, 4, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 3, 2, 1),
        "BM43": (4,) * 15 + (3, 2, 1),
        "FP169": (10,) * 63 + (9, 8, 7, 6, 5, 4, 3, 2, 1),
    }
    for name, profile in known.items():
        assert formats.get(name).profile == profile


def test_filters():
    assert {f.bits for f in formats.catalogue(bits=7)} == {7}
    assert {f.family for f in formats.catalogue(family="bm")} == {"BM"}
    with pytest.raises(ValueError, match="8, 7, 6"):
        formats.catalogue(bits=5)
    with pytest.raises(ValueError, match="INT, FP, tapered, BM"):
        formats.catalogue(family="posit")


def test_formats_work_without_torch():
    """Importing, listing and rounding numpy arrays load no torch."""
    code = (
        "import sys, numpy as np, formats\n"
        "assert formats.get('FP134').round(np.float32([1.03]))[0] == 1.0\n"
        "assert 'torch' not in sys.modules"
    )
    python("-c", code)
