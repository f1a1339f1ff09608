"""What formats say about themselves, against their own decoding and rounding."""

import numpy as np
import pytest

import formats
from formats.description import describe, standards

NAMES = (
    *formats.STANDARDS,
    *("MXFP8-E4M3", "MXFP8-E5M2", "MXFP6-E3M2", "MXFP6-E2M3", "MXFP4", "MXINT8", "NVFP4", "NVFP4/tile16x16"),
    *("FP134", "FP152", "INT8", "INT16", "T8.5x3@2", "BM43", "LOG4", "FP134/channel/headroom1", "profile:12:4x5,3,2,1"),
    *(
        "INT8/real",
        "INT4/real/channel",
        "NF4/block64",
        "posit8,1",
        "posit<16,1>",
        "minifloat(4,3,bias=9)",
        "E4M3/standard",
    ),
    *("P3109:8.4.signed.extended", "P3109:8.1.unsigned.finite", "P3109:3.2.signed.finite"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_that_is_listed_is_one(name):
    format = formats.get(name)
    facts = describe(format)
    values = facts["values"]
    assert (values is None) == (facts["number_of_values"] > 256)
    if values is None:
        return
    codes, numbers = (np.array(part) for part in zip(*values, strict=True))
    assert len(set(numbers.tolist())) == facts["number_of_values"] == len(numbers)
    assert (numbers.max(), numbers.min()) == (facts["largest"], facts["lowest"])
    assert numbers[numbers > 0].min() == facts["smallest_positive"]
    x = numbers.astype(np.float32)
    if name.startswith("NVFP4"):
        top = formats.NVFP4Scales(np.full(format.find_top(x[:, None]).blocks.shape, 0x38, np.uint8), np.float32(1))
        x, codes = x[:, None], codes[:, None]
    else:
        top = facts["top"] if facts["top"] is not None else 1.0
    q = format.encode(x, top=top)
    assert (q.codes == codes).all()
    assert (q.decode() == x).all()


def test_how_far_numbers_may_lie_beyond_the_values():
    expected = {
        "NF4": 2,
        "NF4/headroom1": 1,
        "LOG4": 2,
        "FP134": 2 / 1.9375,
        "MXFP4": 8 / 6,
        "E4M3": None,
        "BM43/ceil": None,
    }
    assert {name: describe(formats.get(name))["overshoot"] for name in expected} == expected
    quarters = formats.from_codebook([0, 1, 3], signed=True)
    assert describe(quarters)["overshoot"] == 4 / 3
    assert float(np.abs(quarters.round(np.float32([3.99]))).max()) == 3


def test_facts_of_some_by_hand():
    e4m3 = describe(formats.get("E4M3"))
    assert (e4m3["largest"], e4m3["smallest_normal"], e4m3["smallest_positive"], e4m3["epsilon"]) == (
        448,
        2**-6,
        2**-9,
        0.125,
    )
    assert (e4m3["number_of_values"], e4m3["special_values"]) == (253, {"NaN": "0x7F, 0xFF", "-0": "0x80"})
    e5m2 = describe(formats.get("E5M2"))["special_values"]
    assert e5m2 == {"inf": "0x7C", "-inf": "0xFC", "NaN": "0x7D to 0x7F, 0xFD to 0xFF", "-0": "0x80"}
    mx = describe(formats.get("MXFP4"))
    assert [value for _, value in mx["values"]] == [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6]
    assert (mx["dynamic_range_binades"], mx["dynamic_range_decades"], mx["dynamic_range_db"]) == (3.58, 1.08, 21.6)
    posit = describe(formats.get("posit8,1"))
    assert (posit["largest"], posit["epsilon"], posit["smallest_normal"]) == (4096, 2**-4, None)
    assert posit["special_values"] == {"NaN": "0x80"}
    bfloat16 = describe(formats.get("bfloat16"))
    assert (bfloat16["number_of_values"], bfloat16["epsilon"], bfloat16["smallest_normal"]) == (
        2 * 254 * 128 + 2 * 127 + 1,
        2**-7,
        2**-126,
    )
    assert describe(formats.get("INT8"), 6)["special_values"] == {"-128, never produced": "0x80"}


def test_what_cannot_be_shown():
    for name, top, message in (
        ("E4M3", 3, "at top exponent 8 only"),
        ("FP134", 500, "outside -139 to 127"),
        ("INT8/real", 1, "at a scale of 1 only"),
    ):
        with pytest.raises(ValueError, match=message):
            describe(formats.get(name), top)

    class Own:
        name, digest = "own", "own"

        def round(self, x):
            return x

    with pytest.raises(TypeError, match="own is not a format of this package"):
        describe(Own())


def test_standards_are_all_there_with_their_other_names():
    rows = {row["name"]: row for row in standards()}
    assert set(formats.STANDARDS) | {"MXFP4", "MXINT8", "NVFP4"} <= set(rows)
    assert len(rows) == len(formats.STANDARDS) + 7
    for row in rows.values():
        assert all(formats.get(other) == formats.get(row["name"]) for other in row["also"].split())
