"""Names: every spelling finds its format, and unknown ones say what is near."""

import pytest

import formats
from formats.names import standard


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
    # What FP8 and FP4 mean in practice has a scale from the data.
    for given in ("FP8", "fp8", "float8", "MXFP8"):
        with pytest.raises(ValueError, match="may be E4M3/tensor, E4M3/row, E4M3/block128, E4M3/real or MXFP8-E4M3"):
            formats.get(given)
    with pytest.raises(ValueError, match="unknown format 'FP4'; that may be NVFP4, MXFP4 or E2M1/tensor"):
        formats.get("FP4")
    with pytest.raises(ValueError, match="did you mean FP143, FP134, FP133"):
        formats.get("FP13")
    with pytest.raises(TypeError, match="neither a format's name"):
        formats.get(3)


def test_standards_are_found_by_name():
    assert formats.get("float8_e4m3fn").max() == 448
    assert formats.get("E5M2").name == "E5M2"
    assert formats.get("LOG4").profile == (1,) * 7
    assert formats.get("posit<8,2>").bits == 8
    assert formats.get("FP169").max() == 1023 * 2.0**23
    for name in formats.STANDARDS:
        assert formats.get(name).name == name


NAMES = {
    "float8_e4m3fn": "E4M3",
    "Float8_E4M3": "E4M3IEEE",
    "float8_e5m2": "E5M2",
    "float8_e4m3fnuz": "E4M3FNUZ",
    "float8_e5m2fnuz": "E5M2FNUZ",
    "float8_e4m3b11fnuz": "E4M3B11FNUZ",
    "float8_e3m4": "E3M4",
    "float6_e3m2fn": "E3M2",
    "float6_e2m3fn": "E2M3",
    "float4_e2m1fn": "E2M1",
    "float8_e8m0fnu": "E8M0",
    "BF16": "bfloat16",
    "fp16": "float16",
    "tf32": "TF32",
    "nf4": "NF4",
    "fp169": "FP169",
    "POSIT<8,2>": "posit<8,2>",
    "posit16,2": "posit<16,2>",
    "p3109:8.3.Signed.Finite": "P3109:8.3.signed.finite",
    "p3109_k8p3uf": "P3109:8.3.unsigned.finite",
    "minifloat( 4, 3, bias=-7 )": "minifloat(4,3,bias=-7)",
    "e4m3/standard": "E4M3/standard",
}


@pytest.mark.parametrize("given", NAMES)
def test_names(given):
    found = standard(given)
    assert found.name == NAMES[given]
    assert standard(found.name) == found
