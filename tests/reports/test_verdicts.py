"""The sentence that a ranking comes to."""

import pandas as pd
import pytest

from predictor.recipe_comparison.table import COLUMNS
from reports.verdicts import of_recipes, undecided, verdict

TABLE = pd.DataFrame(
    {
        **{"rank": [1, 1, 3], "name": ["BM25", "INT8", "FP123"], "bits": pd.array([8, 8, 6], dtype="Int64")},
        **{"angle_E": [1.01, 2.0, 5.0], "n_E": [4, 4, 4], "gap": [0.0, 0.005, 0.3]},
        **{"gap_low": [-0.06, -0.06, 0.0], "gap_high": [0.22, 0.22, float("inf")]},
    }
)
SETTINGS = {"by": "E", "needed": 9, "yardsticks": [{"name": "bfloat16", "angle_E": 0.0612}]}


def test_all_that_a_ranking_says():
    assert verdict(TABLE, SETTINGS, 0.01) == (
        "BM25 turns the gradient least, by 1.01 degrees of E (bfloat16: 0.0612), not told apart from INT8; 2 of 3 "
        "formats are expected to train as well as float32 within 1% by their angle of E alone (the first's gap is 0.0% "
        "[-6, 22])"
    )
    assert verdict(TABLE, SETTINGS, 0.4).endswith(
        "3 of 3 formats are expected to train as well as float32 within 40% by their angle of E alone, with fewest "
        "bits FP123 (6 bits) (the first's gap is 0.0% [-6, 22])"
    )
    assert "E alone, with fewest gates INT8 (1,042) (the" in verdict(
        TABLE.assign(gates=[1100.4, 1041.8, 9.0]), SETTINGS, 0.01
    )
    assert verdict(TABLE[2:], {"by": "E"}, 0.01) == (
        "FP123 turns the gradient least, by 5 degrees of E; it is not expected to train as well as float32 "
        "within 1% by their angle of E alone; FP123's gap is 30.0% [0, ?]"
    )


def test_what_is_not_decided():
    less = "BM25 is not told apart from INT8"
    same = "if they differ as much as they do now"
    assert undecided(TABLE, SETTINGS) == f"{less}; {same}, about 5 more mini-batches would tell it from INT8"
    assert undecided(TABLE, SETTINGS | {"needed": None}) == less
    assert undecided(TABLE, SETTINGS | {"available": 9}) == undecided(TABLE, SETTINGS)
    assert undecided(TABLE, SETTINGS | {"available": 8}) == (
        f"{less}; {same}, its 8 mini-batches do not suffice to tell it from INT8"
    )
    tied = TABLE.assign(rank=1)
    assert undecided(tied, SETTINGS | {"needed": 5}) == (
        f"nothing is decided: {less} and FP123; {same}, about 1 more mini-batch would tell it from INT8"
    )
    assert "by 1.01 degrees of E (bfloat16: 0.0612), but nothing is decided: BM25 is" in verdict(tied, SETTINGS, 0.01)
    many = pd.concat([TABLE.assign(rank=1)] * 3, ignore_index=True)
    assert "is not told apart from INT8, FP123, BM25 and 5 more;" in undecided(many, SETTINGS)
    assert undecided(TABLE.assign(rank=[1, 2, 3]), SETTINGS | {"needed": None}) == ""
    assert undecided(TABLE.assign(n_E=1), SETTINGS | {"available": 1}) == (
        "nothing is decided by 1 mini-batch, there are no more"
    )
    assert undecided(TABLE.assign(n_E=1), SETTINGS | {"needed": None}) == (
        "nothing is decided by 1 mini-batch, 3 more would give intervals"
    )
    assert undecided(TABLE[:1], SETTINGS) == undecided(TABLE, {}) == ""


@pytest.mark.parametrize("settings", [{}, {"by": "WAE"}])
def test_without_a_sidecar_less_is_said(settings):
    table = TABLE.drop(columns=["gap", "gap_low", "gap_high"])
    assert (
        verdict(table, settings, 0.01)
        == "BM25 turns the gradient least, by 1.01 degrees of E, not told apart from INT8"
    )


def test_over_several_networks():
    table = pd.DataFrame(
        {"rank": [1], "name": ["BM25"], "mean_rank": [2.5], "angle_worst": [3.21], "worst_on": ["lstm"]}
    )
    assert (
        verdict(table, {}, 0.01) == "BM25 has the smallest mean rank, 2.5; its largest angle is 3.21 degrees, on lstm"
    )


def recipes(**changed):
    given = {
        "recipe": ["bf16", "mxfp8", "nvfp4"],
        **{"product": "all", "part": "everywhere", "layer": "all", "n": 4},
        **{"rank": [1, 1, 3], "rank_by_projection": [1, 1, 3], "rank_by_angle": [1, 2, 3]},
        **{"projection": [1.0, 0.99, 0.8], "angle_of_mean": [0.9, 15.0, 60.0], "to_tell": [None, 20, None]},
    }
    return pd.DataFrame(given | changed, columns=list(COLUMNS))


def test_recipes_that_share_the_rank_of_the_baseline_are_not_as_good():
    assert of_recipes(recipes()) == (
        "mxfp8 keeps the gradient's length along itself best, 0.9900, and turns it by 15 degrees (bf16: 1.0000 and "
        "0.9); 4 mini-batches do not decide whether mxfp8 is as good as bf16 by the projection, and the angle tells it "
        "apart; if they differ as much as they do now, about 16 more would"
    )
    both = of_recipes(recipes(rank=[1, 1, 1], rank_by_projection=[1, 1, 1], to_tell=[None, 20, 9]))
    assert "4 mini-batches do not decide whether mxfp8 and nvfp4 are as good as bf16 by the projection, and" in both
    assert both.endswith("about 5 to 16 more would")
    like = of_recipes(recipes(rank_by_angle=[1, 1, 3], to_tell=None))
    assert like.endswith("whether mxfp8 is as good as bf16 by the projection")
    assert "decide" not in of_recipes(recipes(rank=[1, 2, 3], rank_by_projection=[1, 2, 3]))


def test_where_projection_and_angle_name_two_recipes_neither_wins():
    told = of_recipes(recipes(angle_of_mean=[0.9, 27.4, 17.5], projection=[1.0, 0.9666, 0.9617]))
    assert told.startswith("mxfp8 keeps the gradient's length along itself best, 0.9666, and turns it by 27.4 degrees")
    assert "by the angle nvfp4 is best, 0.9617 and 17.5 degrees: which of the two trains better is not told" in told
    one = of_recipes(recipes(n=1, rank=[1, 2, 3], rank_by_projection=[1, 2, 3]))
    assert one.startswith("nothing is decided by 1 mini-batch, 3 more would give intervals; mxfp8 keeps")
