"""The sentence that a ranking comes to."""

import pandas as pd
import pytest

from reports.verdicts import undecided, verdict

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
        "BM25 turns the gradient least, by 1.01 degrees of E (bfloat16: 0.0612), tied with 1 other; 2 of 3 formats are "
        "expected to train as well as float32 within 1% by their angle of E alone (the first's gap is 0.0% [-6, 22])"
    )
    assert verdict(TABLE, SETTINGS, 0.4).endswith(
        "3 of 3 formats are expected to train as well as float32 within 40% by their angle of E alone, with fewest "
        "bits FP123 (6 bits) (the first's gap is 0.0% [-6, 22])"
    )
    assert "E alone, with fewest gates INT8 (1,042) (the" in verdict(
        TABLE.assign(gates=[1100.4, 1041.8, 9.0]), SETTINGS, 0.01
    )
    assert verdict(TABLE[2:], {"by": "E"}, 0.01) == (
        "FP123 turns the gradient least, by 5 degrees of E; none of 1 formats is expected to train as well as float32 "
        "within 1% by their angle of E alone; FP123's gap is 30.0% [0, ?]"
    )


def test_what_is_not_decided():
    assert undecided(TABLE, SETTINGS) == "BM25 and INT8 are not told apart, about 5 more mini-batches would"
    assert undecided(TABLE, SETTINGS | {"needed": None}) == ""
    tied = TABLE.assign(rank=1)
    assert undecided(tied, SETTINGS) == (
        "nothing is decided: all ranks are ties, about 5 more mini-batches would tell the first two apart"
    )
    assert "by 1.01 degrees of E (bfloat16: 0.0612), but nothing is decided: all ranks" in verdict(tied, SETTINGS, 0.01)
    assert undecided(TABLE.assign(n_E=1), SETTINGS | {"needed": None}) == (
        "nothing is decided by 1 mini-batch, 3 more would give intervals"
    )
    assert undecided(TABLE[:1], SETTINGS) == undecided(TABLE, {}) == ""


@pytest.mark.parametrize("settings", [{}, {"by": "WAE"}])
def test_without_a_sidecar_less_is_said(settings):
    table = TABLE.drop(columns=["gap", "gap_low", "gap_high"])
    assert verdict(table, settings, 0.01) == "BM25 turns the gradient least, by 1.01 degrees of E, tied with 1 other"


def test_over_several_networks():
    table = pd.DataFrame(
        {"rank": [1], "name": ["BM25"], "mean_rank": [2.5], "angle_worst": [3.21], "worst_on": ["lstm"]}
    )
    assert (
        verdict(table, {}, 0.01) == "BM25 has the smallest mean rank, 2.5; its largest angle is 3.21 degrees, on lstm"
    )
