"""The catalogue against the rule of docs/definitions/formats.md section 4, generated a second time by another route,
and all spellings of names."""

import subprocess
import sys
from collections import Counter
from itertools import product

import numpy as np
import pytest

import formats
from formats.kinds.microscaling import microscaling_formats
from formats.tables.microscaling import ELEMENTS


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


def test_names_parse_back():
    for f in formats.catalogue():
        assert formats.get(f.name) == f
        assert formats.get(f.name).name == f.name
        assert formats.get(f.name.lower()).name == f.name
        assert formats.from_profile(f.profile, f.bits, scale=f.scale).name == f.name
        written = f"profile:{f.bits}:" + ",".join(map(str, f.profile))
        grid = formats.get(written)
        assert grid.profile == f.profile
        if f.granularity == "tensor":
            assert grid.name == f.name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("FP116", "INT8"),
        ("fp115", "INT7"),
        ("BM<4,3>", "BM43"),
        ("bm<0,7>", "BM07"),
        ("T8.5x7@0", "FP134"),
        ("T8.6x0@0", "FP134"),
        ("profile:8:4x2,5x3,4x7,3,2,1", "T8.5x3@2"),
        ("PROFILE:8:5x7,4,3,2,1", "FP134"),
        ("FP134/channel", "FP134/channel"),
        ("FP134/channel@0", "FP134/channel"),
        ("int8/block32", "INT8/block32"),
        ("int8/block32@1", "INT8/block32@1"),
        ("FP134/tile16x8", "FP134/tile16x8"),
        ("FP134/headroom2", "FP134/headroom2"),
        ("FP134/channel/headroom1", "FP134/channel/headroom1"),
        ("BM43/headroom1", "BM43/headroom1"),
    ],
)
def test_other_spellings(spelling, name):
    assert formats.get(spelling).name == name
    assert formats.get(formats.get(spelling).name) == formats.get(spelling)


@pytest.mark.parametrize(
    "name",
    [
        "FP13",
        "FP999",
        "T8.9x1@0",
        "T8.5x9@0",
        "T8.5x3@99",
        "INT1",
        "INT40",
        "BM90",
        "",
        "resnet",
        "profile:8",
        "profile:8:5y7",
        "FP134/rows",
        "profile:8:1x999999999",
        "profile:8:99",
        "profile:99:5,4",
        "posit<16,99999>",
    ],
)
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"."):
        formats.get(name)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean FP143, FP134, FP133"):
        formats.get("FP13")
    with pytest.raises(TypeError, match="neither a format's name"):
        formats.get(3)


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
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_microscaling_formats():
    """OCP MX v1.0: blocks of 32, X = floor(log2 max) - emax clamped to -127 .. 127, elements rounded to nearest even
    and saturated."""
    rng = np.random.default_rng(0)
    emax = {"MXFP8-E4M3": 8, "MXFP8-E5M2": 15, "MXFP6-E3M2": 4, "MXFP6-E2M3": 2, "MXFP4": 2}
    x = np.ldexp(rng.standard_normal((5, 70)), rng.integers(-150, 120, (5, 70))).astype(np.float32)
    x[0, :32] = 0
    for entry in microscaling_formats():
        assert formats.get(entry.name.lower()) == entry
        assert formats.get(entry.name).name == entry.name
        assert formats.get(f"{entry.name}/rceil").name == f"{entry.name}/rceil"
        if entry.name == "MXINT8":
            continue
        element = formats.get(ELEMENTS[entry.name])
        expected = np.empty_like(x)
        for row, start in product(range(5), (0, 32, 64)):
            block = x[row, start : start + 32].astype(np.float64)
            largest = np.abs(block).max()
            scale = 2.0 ** np.clip((np.frexp(largest)[1] - 1 if largest else 0) - emax[entry.name], -127, 127)
            expected[row, start : start + 32] = element.round(block / scale) * scale
        rounded = entry.round(x)
        representable = np.abs(expected) >= 2.0**-126
        assert (rounded[representable] == expected[representable]).all(), entry.name
    assert formats.get("MXFP8-E4M3").max(8) == 448
    with pytest.raises(ValueError, match="blocks of its own"):
        formats.get("MXFP8-E4M3/channel")


def test_standards_are_found_by_name():
    assert formats.get("float8_e4m3fn").max() == 448
    assert formats.get("E5M2").name == "E5M2"
    assert formats.get("LOG4").profile == (1,) * 7
    assert formats.get("posit<8,2>").bits == 8
    assert formats.get("FP169").max() == 1023 * 2.0**23
    for name in formats.STANDARDS:
        assert formats.get(name).name == name
