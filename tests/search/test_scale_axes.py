"""Sweeps: which candidates come out, their names and order, and what is refused."""

import pytest

import formats
from formats import Scale
from predictor import Pair
from search import rank
from search.candidates import choose
from search.scale_axes import Axis, parse_axes, sweep
from tests.nets import small_workload


def names(candidates, *texts):
    return [entry.name for entry in sweep(choose(candidates), parse_axes(texts))]


def test_names_and_order():
    assert names(["FP134", "BM43"], "headroom=0,1", "scale=floor,rceil") == [
        "FP134/headroom0", "FP134/rceil/headroom0", "FP134/headroom1", "FP134/rceil/headroom1",
        "BM43/headroom0", "BM43/rceil/headroom0", "BM43/headroom1", "BM43/rceil/headroom1",
    ]  # fmt: skip
    assert names(["FP134/headroom2"], "headroom=1", "block=16, 32") == [
        "FP134/block16/headroom1",
        "FP134/block32/headroom1",
    ]
    assert names(["FP134", "INT8/channel"], " BLOCK=64") == ["FP134/block64", "INT8/block64"]
    assert names(["FP134+BM43", "MXFP8-E4M3"], "scale=Even") == ["FP134/even+BM43/even", "MXFP8-E4M3/even"]
    assert names(["FP134", "E4M3"]) == ["FP134", "E4M3"]


def test_each_once_by_content():
    assert names(["FP134", "FP134/headroom1"], "headroom=0,1") == ["FP134/headroom0", "FP134/headroom1"]
    # In runs of 32, a block minifloat is its grid.
    assert names(["FP143", "BM43"], "block=32") == ["FP143/block32"]
    assert names(["FP134"], "headroom=1,1") == ["FP134/headroom1"]


@pytest.mark.parametrize(
    ("texts", "count"), [(("headroom=0,1,2", "scale=floor,ceil,even,rceil"), 498 * 12), (("block=16,32",), 484 * 2)]
)
def test_the_catalogue(texts, count):
    found = sweep(choose(), parse_axes(texts))
    assert len(found) == len({entry.digest for entry in found}) == len({entry.name for entry in found}) == count
    for entry in found[::37]:
        assert formats.get(entry.name).digest == entry.digest


def test_a_scale_that_is_already_there_keeps_the_name():
    mine = formats.from_profile([5, 5, 4, 3, 2, 1], name="mine")
    kept, changed = sweep([mine], parse_axes(["scale=floor,ceil"]))
    assert kept is mine
    assert changed == mine.with_scale(Scale(policy="ceil"))
    pair = Pair(mine, mine)
    assert sweep([pair], parse_axes(["scale=floor"])) == [pair]


def test_axes():
    assert parse_axes(["headroom=0,1", "scale=floor"]) == {Axis.HEADROOM: [0, 1], Axis.SCALE: ["floor"]}
    for text, message in (
        ("bits=8", "an axis is headroom="),
        ("headroom", "an axis is headroom="),
        ("headroom=", "'' is not a number of binades from 0"),
        ("headroom=-1", "'-1' is not a number of binades"),
        ("headroom=0,,1", "'' is not a number of binades"),
        ("block=4x4", "'4x4' is not a number of elements from 1"),
        ("scale=delayed", "'delayed' is no scale policy; allowed are floor, ceil, even, rceil"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            parse_axes([text])
        assert f"sweep {text!r}: " in str(caught.value)
    with pytest.raises(ValueError, match="axis headroom was given before"):
        parse_axes(["headroom=0", "headroom=1"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("E4M3", "headroom=0,1", "E4M3 cannot be swept: only formats with a precision profile"),
        ("FP134+NF4", "scale=floor", "NF4 cannot be swept"),
        ("MXFP8-E4M3", "block=16", "MXFP8-E4M3 has blocks of its own"),
        ("FP134", "block=0", "block 0: a positive number"),
        ("FP134", "headroom=256", "headroom 256: a whole number of binades from 0 to 255"),
    ],
)
def test_refusals(name, text, message):
    with pytest.raises(ValueError, match=message):
        names([name], text)


def test_a_swept_ranking_has_a_row_for_each():
    chosen = sweep(choose(["FP134", "FP143"]), parse_axes(["headroom=0,1"]))
    ranking = rank(small_workload(2), chosen, effects=["E"], scheme="current")
    assert sorted(ranking.table.name) == ["FP134/headroom0", "FP134/headroom1", "FP143/headroom0", "FP143/headroom1"]
    assert len(set(ranking.settings.formats.values())) == 4
    assert ranking.table.angle_E.nunique() == 4
    by_paper = rank(small_workload(2), chosen, effects=["E"]).table.set_index("name").angle_E
    assert by_paper.to_dict() == ranking.table.set_index("name").angle_E.to_dict()  # names say all
