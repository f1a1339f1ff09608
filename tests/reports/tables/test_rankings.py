"""The lines under a ranking: what it took, and how it ended."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from predictor.effects import Effect, Points
from predictor.risk import DIVERGED, bundled_trainings
from predictor.scheme import PAPER
from reports.tables import cells, rankings
from search.front import FRONT
from search.planning import InTime, Plan
from search.settings import RankingSettings
from search.table import Ranking

TABLE = pd.DataFrame(
    {
        "rank": [1, 1, 3],
        "name": ["hf:llama:", "INT8", "mine"],
        "bits": pd.array([8, 8, None], dtype="Int64"),
        "profile": ["5,4", "7,6", ""],
        **{"angle_AE": [1.0, 2.0, 3.0], "low_AE": [0.5, 1.5, 2.0], "high_AE": [1.5, 2.5, 4.0]},
        "source_AE": ["measured", "measured", "predicted"],
    }
)
SETTINGS = RankingSettings(
    **{"workload": "net", "weights": "w", "device": "cpu", "data": "d", "effects": (Effect.AE,), "by": Effect.AE},
    **{"minibatches": 4, "batch_size": None, "exhaustive": False, "time_budget": None, "exact": (), "scheme": PAPER},
    **{"candidates": 3, "measured": 2, "gradients": 7, "exhaustive_gradients": 12, "regret_at_most": 0.123},
    **{"left_the_race": {}, "surrogate": {}, "failures": 0, "complete": True, "seconds": 5.0, "formats": {}},
    coverage=None,
    gap=None,
)


def lines(complete=True, **changed):
    found = Ranking(TABLE, Effect.AE, complete, dataclasses.replace(SETTINGS, **changed))
    table, *rest = rankings.ranking("net", found, 2, "are kept; again", 0.01, 9.4)
    assert table.title == "net: 3 formats by the angle of AE over 4 mini-batches, scheme paper; 2 measured"
    assert table.row_count == 2
    assert rest[0] == rankings.READING
    assert rest[-1].startswith("verdict: hf:llama: turns the gradient least, by 1 degrees of AE")
    assert rest[1] == "hf:llama: is not told apart from INT8"
    unweighted = "weights are not rounded here: where the chip rounds them too, --effects E,A,AE,WAE with --formats"
    return [line for line in rest[2:-1] if line != unweighted]


def test_what_was_not_measured_on_all_mini_batches_is_an_estimate():
    row = {"angle_A": 9.96, "low_A": 4.2, "high_A": 15.8, "source_A": "measured", "n_A": 2}
    assert cells.angle(row, "A", 16) == "~9.96"
    assert cells.angle(row | {"n_A": 16}, "A", 16) == "9.960 ± 5.800"
    assert cells.angle(row, "A", 2) == "9.960 [4.2, 15.8]"
    assert cells.angle(row | {"n_A": 0, "source_A": "predicted"}, "A", 16) == "~9.96"


def test_what_it_took():
    best, needed = lines()
    assert best == "no other is better than hf:llama: by more than 0.12 degrees (97.5% confidence for each)"
    assert needed == "7 gradients were needed, 12 would measure all; 5 s of measuring, 9 s in all"
    # A limit near all that the first has promises nothing.
    assert lines(regret_at_most=0.9) == [needed]
    assert lines(regret_at_most=0.0)[0] == "no other is better than hf:llama: (97.5% confidence for each)"
    floor = "no other is better than hf:llama: by more than the 1.0% that an angle repeats itself within"
    assert lines(regret_at_most=0.01)[0] == floor
    # With one mini-batch there is no confidence.
    assert lines(regret_at_most=float("nan")) == [needed]
    assert lines(coverage="rounded is half") == [best, needed, "rounded is half"]


def test_wide_intervals_of_what_was_measured_name_what_narrows_them():
    table = TABLE.assign(high_AE=[1.5, 2.9, 9.0])  # the last is predicted
    _, _, said, *_ = rankings.ranking("net", Ranking(table, Effect.AE, True, SETTINGS), 3, "", 0.01, 9.4)
    assert said.startswith("2 of 2 intervals reach more than a third of their angle to a side; --minibatches 8 makes")


@pytest.mark.parametrize(("budget", "why"), [(None, "an interrupt"), (9.0, "an interrupt"), (5.0, "the time budget")])
def test_why_it_ended_early(budget, why):
    kept = "7 measurements were made and are kept; again"
    assert lines(complete=False, time_budget=budget)[-1] == f"ended early by {why}: {kept}"


def test_what_a_ranking_is_held_against():
    beside = {"name": "bfloat16", "bits": 16, "profile": "8x254", "angle_AE": 0.5, "low_AE": 0.4, "high_AE": 0.6}
    beside |= {"source_AE": "measured", "n_AE": 2}
    known = beside | {"name": "FP134", "bits": 8, "angle_AE": 0.9}
    found = Ranking(TABLE, Effect.AE, True, dataclasses.replace(SETTINGS, yardsticks=(beside, known)))
    table, _, said, *rest = rankings.ranking("net", found, 2, "", 0.01, 9.4)
    assert list(table.columns[0].cells) == ["1", "1", "", ""]
    assert list(table.columns[1].cells) == ["hf:llama:", "INT8", "bfloat16", "FP134"]
    assert list(table.columns[3].cells)[2:] == ["~0.5", "~0.9"]
    assert [row.end_section for row in table.rows] == [False, True, False, False]
    trainings = bundled_trainings().assign(level=lambda of: np.log1p(of["gap"].clip(upper=DIVERGED)))
    own = trainings[trainings["name"] == "FP134"].groupby("network")["level"].mean()
    mean = 100 * np.expm1(own.mean())
    assert said == (
        f"FP134, below, trained well of {trainings['name'].nunique()} formats on {len(own)} networks: its loss ended "
        f"{mean:+.1f}% off float32's in the mean"
    )
    assert "by 1 degrees of AE (bfloat16: 0.5, FP134: 0.9)" in rest[-1]


def test_what_weights_would_add():
    found = Ranking(TABLE, Effect.AE, True, dataclasses.replace(SETTINGS, weights_alone={}))
    said_of = [line for line in rankings.ranking("net", found, 2, "", 0.01, 9.4) if isinstance(line, str)]
    assert sum(line.startswith("weights are not rounded here: where the chip") for line in said_of) == 1
    found = dataclasses.replace(found, settings=dataclasses.replace(SETTINGS, effects=(Effect.AE, Effect.WAE)))
    said_of = [line for line in rankings.ranking("net", found, 2, "", 0.01, 9.4) if isinstance(line, str)]
    assert not any(line.startswith("weights are not") for line in said_of)
    said = lines(weights_alone={"INT8": 4.1366, "mine": 0.5})
    assert said[1].startswith(
        "weights are not rounded here; alone, on the first mini-batch, they turn the gradient by INT8 4.14, mine 0.5 "
    )


def test_activations_that_turn_the_gradient_further_than_both_are_remarked():
    table = TABLE.assign(angle_A=[0.5, 2.5, 3.5], low_A=0.1, high_A=9.0, source_A="measured", n_A=4, n_AE=4)
    found = Ranking(table, Effect.AE, True, SETTINGS)
    _, _, said, *_ = rankings.ranking("net", found, 3, "", 0.01, 9.4)
    assert said.startswith("A above AE (INT8, mine): on these mini-batches the noise of errors happens to cancel some")
    found = Ranking(table.assign(n_A=2), Effect.AE, True, SETTINGS)
    _, _, said, *_ = rankings.ranking("net", found, 3, "", 0.01, 9.4)
    assert said.startswith("A above AE (INT8, mine): one or both are estimates")


def with_gaps(*gaps):
    table = TABLE.assign(angle_AE=[1.0, 4.0, 9.0], low_AE=0.5, high_AE=10.0, gap=gaps)
    table = table.assign(gap_low=table["gap"] - 0.1, gap_high=table["gap"] + 0.2)
    found = Ranking(table, Effect.AE, True, dataclasses.replace(SETTINGS, gap="gap: from 9 trainings"))
    return rankings.ranking("net", found, 3, "are kept; again", 0.02, 9.4)


def test_a_line_ends_those_as_good_as_float32():
    table, _, _, said, *_ = with_gaps(0.001, 0.02, 0.5)
    first, second = said.split("; ")
    assert first == "as good as float32 within 2%: 2 of 3 formats, up to an angle of AE of 4 degrees, the next has 9"
    assert second == "gap: from 9 trainings"
    assert [row.end_section for row in table.rows] == [False, True, False]
    column = next(column for column in table.columns if column.header == "gap")
    assert list(column.cells) == ["0.1% [-10, 20]", "2.0% [-8, 22]", "50.0% [40, 70]"]


def test_no_line_where_there_is_nothing_on_one_side():
    table, _, _, said, *_ = with_gaps(0.1, 0.2, 0.5)
    assert said == "as good as float32 within 2%: 0 of 3 formats; gap: from 9 trainings"
    assert not any(row.end_section for row in table.rows)
    # Nor where the order is another one than that of the gaps.
    table, *_ = with_gaps(0.1, 0.01, 0.5)
    assert not any(row.end_section for row in table.rows)
    beyond = {"gap": 0.7, "gap_low": 0.1, "gap_high": float("inf")}
    assert cells.gap(beyond) == "70.0% [10, ?]"
    assert cells.gap(dict.fromkeys(beyond, float("nan"))) == "-"


def test_a_plan_says_what_shorter_and_longer_ones_would_give():
    in_time = (InTime(60.0, 150.0, None), InTime(300.0, 150.0, FRONT[1]), InTime(90.0, 9.0, FRONT[0]))
    plan = Plan(3, Points.DATAFLOW, 498, 36, 16, 96, 7968, 120.0, in_time)
    assert rankings.plan("net", plan)[1:] == [
        "--time 1m: too short, the screen alone takes about 2.5 minutes",
        "--time 5m: 15 anchors on 1 mini-batch, 12 race to 1; regret 0%, 9 of the first ten, intervals of ±53%",
        "--time 1.5m: the screen alone; regret 0%, 9 of the first ten, intervals of ±235%",
        "regret, first ten and half-width: the worst in replays of AE on 3 networks",
    ]


def test_a_ranking_in_time_says_what_was_left():
    policy = "15 anchors on 1 mini-batch, 12 race to 1"
    for left, said in ((12.4, "12 s were left"), (-0.3, "0 s were left")):
        assert f"{policy}, in the 60 s that there were; {said}" in lines(policy=policy, left=left, time_budget=60.0)
    assert not any("were left" in str(line) for line in lines(time_budget=60.0, left=3.0))
    of = {"policy": policy, "beyond": 7, "left": 2.0, "unspent": "one takes 3 s", "time_budget": 60.0}
    said = (
        f"{policy}, then 7 more measurements of the leaders, in the 60 s that there were; 2 s were left: one takes 3 s"
    )
    assert said in lines(**of)
