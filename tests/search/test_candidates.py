"""Which formats are ranked."""

import pytest

import formats
from search.candidates import choose


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
    with pytest.raises(ValueError, match="cannot be filtered"):
        choose(["FP134"], bits=8)
