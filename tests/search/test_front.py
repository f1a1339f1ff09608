"""The front of policies is what the replays in benchmarks/ say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.front import FRONT, NETWORKS, SCREEN_ALONE
from search.policy import in_words

REPLAYS = Path(__file__).parents[2] / "benchmarks" / "replay.csv"
FEWEST_HELD = 0.9
NAMES = {
    "15 anchors on 1 mini-batch, 12 race to 1": "15 on 1, 12 to 1",
    "15 anchors on 2 mini-batches, 12 race to 2": "15 on 2, 12 to 2",
    "22 anchors on 2 mini-batches, 12 race to 2": "22 on 2, 12 to 2",
    "15 anchors on 2 mini-batches, 12 race to 4": "15 on 2, 12 to 4",
    "22 anchors on 2 mini-batches, 12 race to 4": "22 on 2, 12 to 4",
    "22 anchors on 2 mini-batches, 16 race to 6": "22 on 2, 16 to 6",
}


def worst(rows: pd.DataFrame) -> pd.DataFrame:
    means = rows.groupby(["policy", "network"])[["cost", "half_width"]].mean().groupby("policy").max()
    sums = {"units": "max", "openings": "max", "relative": "max", "top": "min", "coverage": "min"}
    return rows.groupby("policy").agg(sums).join(means)


@pytest.fixture(scope="module")
def replays():
    table = pd.read_csv(REPLAYS)
    return table[table.effect == "AE"]


def told(tried):
    return tried.units, tried.openings, tried.regret, tried.top, tried.half_width


def found(row):
    return (row.units, row.openings, round(row.relative, 3), row.top, round(row.half_width, 2))


def test_each_row_is_what_replays_found(replays):
    assert replays.network.nunique() == NETWORKS
    final = worst(replays[replays.stage == "final"])
    for tried in FRONT[1:]:
        name = NAMES[in_words(tried.policy)]
        assert told(tried) == found(final.loc[name]), name
    screened = worst(replays[(replays.stage == "screen") & (replays.policy == "default")])
    assert told(SCREEN_ALONE) == found(screened.loc["default"])


def test_no_other_policy_belongs_to_it(replays):
    final = worst(replays[replays.stage == "final"])
    best, front = SCREEN_ALONE, []
    for _, row in final[final.coverage >= FEWEST_HELD].sort_values("cost").iterrows():
        narrower = round(row.half_width, 2) < best.half_width
        if narrower and round(row.relative, 3) <= best.regret and row.top >= best.top:
            front.append(found(row))
            best = next(tried for tried in FRONT if told(tried) == front[-1])
    assert front == [told(tried) for tried in FRONT[1:]]
    assert np.all(np.diff([tried.half_width for tried in FRONT]) < 0)
