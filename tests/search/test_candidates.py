"""Which formats are ranked."""

import pytest

import formats
from search.candidates import choose, choose_and_tell


def test_choose():
    assert len(choose()) == 498
    assert len(choose(max_binades=11)) == sum(f.binades <= 11 for f in formats.catalogue())
    assert [entry.name for entry in choose(["FP134", "FP134+FP134", "FP134+FP143", "FP143+FP134"])] == [
        "FP134",
        "FP134+FP143",
        "FP143+FP134",
    ]
    mine = [formats.from_profile(profile, 8, name="mine") for profile in ((5, 4, 3), (4, 4, 3))]
    assert len(choose([mine[0], mine[0]])) == 1
    with pytest.raises(ValueError, match="two different formats are called mine"):
        choose(mine)
    with pytest.raises(ValueError, match="no format is left"):
        choose(max_binades=1)


def test_two_names_of_one_format_are_told():
    mine = formats.from_profile((5,) * 7 + (4, 3, 2, 1), name="mine")
    chosen, told = choose_and_tell([mine, "FP134", "fp134", "FP134+FP134", "INT8", "INT8"])
    assert [entry.name for entry in chosen] == ["mine", "INT8"]
    assert told == ["mine, FP134, fp134, FP134+FP134 are one and the same format; its row is mine"]
    assert choose_and_tell()[1] == []


def test_names_are_filtered_as_the_catalogue_is():
    names = ["FP134", "E4M3", "NF4", "posit<6,1>", "MXFP8-E4M3", "NVFP4", "INT8/real", "FP134+INT7", "FP134+E5M2"]

    def left(**filters):
        return [entry.name for entry in choose(names, **filters)]

    assert left(bits=8) == ["FP134", "E4M3", "MXFP8-E4M3", "INT8/real", "FP134+E5M2"]
    assert left(bits=4) == ["NF4", "NVFP4"]
    assert left(family="Standard") == ["E4M3", "NVFP4"]
    assert left(family="codebook", bits=6) == ["posit<6,1>"]
    assert left(max_binades=8) == ["NF4", "posit<6,1>", "NVFP4", "INT8/real"]
    with pytest.raises(ValueError, match="no format is left to rank: none has 5 bits and family MX"):
        left(bits=5, family="MX")
