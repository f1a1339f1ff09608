"""Ranking: candidates, selection, ties, interruption."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

import formats
from formats.pairs import Pair
from predictor import measure
from predictor.effects import Effect
from predictor.measuring.executors import InProcess
from predictor.risk import bundled_trainings, risk_of
from predictor.scheme import CURRENT
from search import rank
from search.across import rank_across
from search.candidates import choose
from search.pacing import Ended
from search.planning import plan
from search.stages import Stage
from tests.nets import small_workload
from tests.predictor import operands
from workloads import Workload

COLUMNS = ["rank", "name", "bits", "family", "granularity", "profile", "binades"]
EFFECTS = ("E", "A", "AE")
PER_EFFECT = ["angle", "low", "high", "n", "source"]


@pytest.fixture(scope="module")
def workload():
    return small_workload(4)


@pytest.fixture(scope="module")
def whole(workload):
    seen = []
    return rank(workload, minibatches=2, effects=EFFECTS, progress=seen.append), seen


def test_all_498_with_the_documented_columns(whole):
    ranking, seen = whole
    table = ranking.table
    assert list(table.columns) == COLUMNS + [f"{c}_{e}" for e in ("E", "A", "AE") for c in PER_EFFECT] + [
        *("projection", "bias", "bias_low", "bias_high", "seconds"),
        *("difference_AE", "difference_low_AE", "difference_high_AE"),
        *("gap", "gap_low", "gap_high"),
    ]
    assert len(table) == 498
    assert set(table.name) == {f.name for f in formats.catalogue()}
    assert table.angle_AE.is_monotonic_increasing
    for column, gaps in zip(
        ("gap", "gap_low", "gap_high"), risk_of(bundled_trainings(), Effect.AE).gaps(table.angle_AE), strict=True
    ):
        assert (table[column] == gaps).all()
    # The bias is of two mini-batches, of which there is no interval, and of what was measured.
    less = ["difference_AE", "difference_low_AE", "difference_high_AE"]
    assert table.drop(columns=["projection", "bias", "bias_low", "bias_high", *less]).notna().all().all()
    assert (table.difference_AE.notna() == (table.n_AE > 0)).all()
    both = table.n_AE == 2
    assert table.bias[both].notna().all()
    assert table.bias[~both].isna().all()
    assert (table.projection.notna() == (table.n_AE > 0)).all()
    assert list(dict.fromkeys(progress.stage for progress in seen)) == [Stage.SCREEN, Stage.ANCHORS, Stage.RACE]
    for stage in Stage:
        last = [progress for progress in seen if progress.stage is stage][-1:]
        assert all(progress.done == progress.total for progress in last)


def test_what_is_measured_and_what_predicted(whole):
    ranking = whole[0]
    table = ranking.table.set_index("name")
    measured = table[table.source_AE == "measured"]
    named = {f.name for f in formats.catalogue() if f.family in ("INT", "FP")}
    assert len(named) == 14
    assert named <= set(measured.index)
    # Those are anchors, measured on one mini-batch for what does not order.
    assert (table.loc[sorted(named), ["n_E", "n_A", "n_AE"]] == [1, 1, 2]).all(axis=None)
    assert len(measured) == ranking.settings.measured < 15 + 12 * 2
    # The winner has run on all mini-batches, and so has whoever the race did not let go.
    assert (table.n_AE.head(10) == 2).all()
    predicted = table[table.source_AE == "predicted"]
    assert (predicted.n_AE == 0).all()
    for effect in ("E", "A", "AE"):
        assert (table[f"low_{effect}"] <= table[f"angle_{effect}"]).all()
        assert (table[f"angle_{effect}"] <= table[f"high_{effect}"]).all()
    assert ranking.settings.gradients == sum(table[f"n_{effect}"].sum() for effect in ("E", "A", "AE"))
    assert ranking.settings.exhaustive_gradients == 498 * 2 * 3


def test_predictions_follow_the_exact_angles(workload, whole):
    table = whole[0].table.set_index("name")
    predicted = table[table.source_AE == "predicted"]
    names = list(predicted.index[3::20])  # of all 471 intervals, 96% of AE hold the truth, 97% of E and all of A
    exact = measure(workload, names, minibatches=2).set_index(["format", "effect"]).angle
    for effect in ("E", "A", "AE"):
        truth = np.array([exact[name, effect] for name in names])
        guess = predicted.loc[names]
        assert stats.spearmanr(truth, guess[f"angle_{effect}"])[0] > 0.95, effect
        assert np.mean((guess[f"low_{effect}"] <= truth) & (truth <= guess[f"high_{effect}"])) >= 0.85, effect


def test_the_winner_is_the_true_winner_or_ties_with_it(workload, whole):
    exact = rank(workload, choose(bits=8), minibatches=2, exhaustive=True, effects=["AE"]).table.set_index("name")
    best = whole[0].table.name[0]
    assert exact.loc[best, "angle_AE"] <= 1.05 * exact.angle_AE.min()


def test_measured_angles_are_those_of_measure(workload, whole):
    table = whole[0].table.set_index("name")
    exact = measure(workload, ["FP134", "INT8"], ["AE"], minibatches=2)
    for _, row in exact.iterrows():
        assert (table.loc[row.format, ["angle_AE", "low_AE"]].to_numpy() == row[["angle", "low"]]).all()
        assert (table.loc[row.format, ["projection", "bias"]] == row[["projection", "bias"]]).all()


def test_the_same_again(workload, whole):
    again = rank(workload, minibatches=2, effects=EFFECTS).table
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), whole[0].table.drop(columns="seconds"))


class LastFirst(InProcess):
    """Finishes the last unit first, as other processes may."""

    def run(self, work):
        return reversed(list(super().run(work)))


def test_the_same_in_whatever_order_units_finish(workload):
    candidates = choose(bits=8)[:40]
    for chosen in (candidates, candidates[:10]):
        first, second = (
            rank(workload, chosen, minibatches=4, executor=executor).table for executor in (InProcess(), LastFirst())
        )
        pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"), check_exact=True)


def test_exhaustive_and_chosen(workload):
    ranking = rank(workload, choose(bits=6, family="FP"), exhaustive=True, minibatches=2, effects=["E"])
    assert (ranking.table.source_E == "measured").all()
    assert ranking.by is Effect.E
    assert sorted(ranking.table.name) == ["FP123", "FP132", "FP141"]
    ranking = rank(workload, ["FP134", "fp134", "FP143+FP152", "profile:8:5,5,6,5,5,4,4,3,3,3,2,1"])
    assert len(ranking.table) == 3
    assert (ranking.table.n_AE == 4).all()
    pair = ranking.table.set_index("name").loc["FP143+FP152"]
    assert (pair.family, pair.granularity, pair.bits, pair.binades) == ("FP+FP", "tensor+tensor", 8, 33)


def test_one_minibatch_has_no_intervals_and_no_ties(workload):
    table = rank(workload, ["FP134", "FP143", "INT8"], minibatches=1).table
    assert table["rank"].tolist() == [1, 2, 3]
    assert table.low_AE.isna().all()


def test_interruption_keeps_what_was_measured(workload):
    def interrupt(progress):
        if progress.stage is Stage.MEASURE and progress.done == 5:
            raise KeyboardInterrupt

    ranking = rank(workload, ["FP134", "FP143", "INT8"], minibatches=4, progress=interrupt)
    assert not ranking.complete
    assert ranking.table.set_index("name").n_AE.to_dict() == {"FP134": 2, "FP143": 2, "INT8": 1}


def test_time_budget(workload):
    ranking = rank(workload, choose(bits=8), minibatches=4, exhaustive=True, time_budget=1e-9)
    assert not ranking.complete
    assert ranking.settings.gradients == 1
    ranking = rank(workload, time_budget=1e-9)
    assert not ranking.complete
    assert ranking.table.angle_AE.notna().all()
    assert ranking.settings.effects == ("AE",)
    with pytest.raises(ValueError, match="positive"):
        rank(workload, ["FP134"], time_budget=0)
    for budget in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"time budget {budget} s: a positive number of seconds is needed"):
            rank(workload, ["FP134"], time_budget=budget)


def test_refusals(workload):
    with pytest.raises(ValueError, match="ranking by A needs that effect"):
        rank(workload, ["FP134"], effects=["E"], by="A")
    with pytest.raises(ValueError, match="5 mini-batches were asked for"):
        rank(workload, ["FP134"], minibatches=5)


def test_an_effect_that_rounds_nothing_in_one_term_is_not_predicted(workload):
    torch.manual_seed(0)
    batches = [(torch.randn(4, 6), torch.randint(0, 3, (4,))) for _ in range(2)]
    single = Workload("single", nn.Linear(6, 3), batches, lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    candidates = choose(bits=8)[:30]
    with pytest.raises(ValueError, match="effect E: workload single rounds no tensor for it in one term"):
        rank(single, candidates, effects=["E"])
    assert rank(single, candidates, effects=["A"]).complete
    assert rank(single, candidates, effects=["E"], exhaustive=True).complete
    with pytest.raises(ValueError, match="effect A: workload small rounds no tensor for it in one term"):
        rank(workload, candidates, effects=["A"], exact=["0", "3"])


def test_an_interrupt_before_anything_is_measured_is_passed_on(workload):
    def interrupt(progress):
        raise KeyboardInterrupt

    for candidates in (["FP134", "FP143"], choose(bits=8)[:30]):
        with pytest.raises(KeyboardInterrupt):
            rank(workload, candidates, progress=interrupt)


def test_what_was_not_reached_is_neither_measured_nor_predicted(workload):
    def interrupt(progress):
        if progress.done == 1:
            raise KeyboardInterrupt

    table = rank(workload, ["FP134", "FP143"], minibatches=1, progress=interrupt).table
    assert table.name.tolist() == ["FP134", "FP143"]
    assert table.source_AE.tolist() == ["measured", ""]


def test_settings_say_what_was_measured(whole):
    settings = whole[0].settings
    assert settings.workload == "small"
    assert len(settings.weights) == 64
    assert settings.formats["FP134"] == formats.get("FP134").digest
    assert np.isfinite(settings.seconds)
    pair = Pair(formats.get("FP134"), formats.get("FP143"))
    assert pair.digest != formats.get("FP134").digest


def test_gaps_are_of_the_scheme_and_effect_of_their_trainings(workload):
    names = ["FP134", "INT8"]
    assert "gap" not in rank(workload, names, effects=["E"], minibatches=1, scheme="current").table
    ranking = rank(workload, names, effects=["E", "W"], by="W", minibatches=1)
    assert "gap" not in ranking.table
    assert ranking.settings.gap is None
    assert "no gap is told by W: the trainings that tell gaps rounded activations and errors alone" in (
        ranking.settings.notes
    )
    # A user's own trainings count beside the bundled ones.
    own = pd.DataFrame({"network": "mine", "name": names, "seed": 0, "angle_E": [1.0, 50.0], "gap": [0.0, 9.0]})
    ranking = rank(workload, names, effects=["E"], minibatches=1, calibration=own)
    assert (
        ranking.table.gap.tolist()
        == risk_of(pd.concat([bundled_trainings(), own]), Effect.E).gaps(ranking.table.angle_E)[0].tolist()
    )
    assert "told by the angle of E" in ranking.settings.gap
    assert "mine" in ranking.settings.gap
    with pytest.raises(ValueError, match=r"have no angle of AE, which orders the table; they have E$"):
        rank(workload, names, effects=["AE"], minibatches=1, calibration=own)


def test_at_operands_screen_and_race_find_what_measuring_all_finds():
    of = operands.workload(2)
    chosen = [*formats.catalogue()[::14], formats.get("MXFP4"), Pair(formats.get("FP134"), formats.get("FP152"))]
    whole = rank(of, chosen, points="operands", exhaustive=True)
    assert (whole.settings.points, whole.settings.effects, whole.by) == ("operands", (Effect.WAE,), Effect.WAE)
    assert whole.settings.scheme == CURRENT
    assert whole.settings.gap is None
    assert "gap" not in whole.table
    # The very numbers of `measure`.
    truth = whole.table.set_index("name")["angle_WAE"]
    measured = measure(of, chosen[-4:], points="operands").set_index("format")["angle"]
    assert truth[measured.index].to_dict() == measured.to_dict()
    fast = rank(of, chosen, points="operands", effects=["E", "WAE"], minibatches=2)
    assert fast.by is Effect.WAE
    assert fast.settings.gradients < len(chosen) * 2 * 2
    assert list(fast.table["name"][:3]) == list(whole.table["name"][:3])
    predicted = fast.table[fast.table["source_WAE"] == "predicted"]
    assert len(predicted) >= 5
    truth = truth[predicted["name"]]
    assert np.abs(predicted["angle_WAE"].array / truth - 1).max() < 0.1
    assert ((predicted["low_WAE"].array <= truth) & (truth <= predicted["high_WAE"].array)).mean() >= 0.8


def test_at_operands_several_networks_and_a_plan():
    of = {"one": operands.workload(2), "other": small_workload(2)}
    found = rank_across(of, ["FP134", "INT6", "MXFP4"], points="operands", minibatches=1)
    assert [own.settings.points for own in found.rankings.values()] == ["operands"] * 2
    assert found.settings.effect is Effect.WAE
    of_plan = plan(of["one"], points="operands", minibatches=2)
    assert (of_plan.points, of_plan.at, of_plan.exhaustive) == (2, "operands", 996)
    with pytest.raises(ValueError, match=r"effect at operands 'E\|A': allowed are E, A, AE, W, WAE"):
        rank(of["one"], ["FP134"], effects=["E|A"], points="operands")


def held(ranking):
    return (ranking.settings.stage, ranking.settings.measured, ranking.complete)


def test_a_table_after_each_stage_each_from_more_than_the_one_before(workload):
    tables = []
    found = rank(workload, choose(bits=8)[:40], minibatches=2, effects=["E"], so_far=tables.append)
    stages = [table.settings.stage for table in tables]
    assert stages[:2] == [Stage.SCREEN, Stage.ANCHORS]
    assert set(stages[2:]) == {Stage.RACE}
    assert not any(table.complete for table in tables)
    assert found.complete
    gradients = [table.settings.gradients for table in tables]
    assert gradients[0] == 0
    assert gradients == sorted(gradients)
    screened = tables[0].table
    assert (screened.n_E == 0).all()
    assert (screened.source_E == "predicted").all()
    assert screened.angle_E.is_monotonic_increasing
    some = screened[::3]
    exact = measure(workload, list(some.name), ["E"], minibatches=2).query("effect == 'E' and scope == 'all'")
    truth = exact.set_index("format").angle.loc[some.name].to_numpy()
    assert stats.spearmanr(truth, some.angle_E)[0] > 0.5
    assert (some.high_E > 20 * some.low_E).all()  # an order more than angles
    # The last one before the ranking is what the ranking comes to.
    pd.testing.assert_frame_equal(tables[-1].table, found.table)


def test_few_are_shown_after_1_2_and_4_minibatches(workload):
    tables = []
    rank(workload, ["FP134", "INT8"], minibatches=4, so_far=tables.append)
    assert [set(table.table.n_E) for table in tables] == [{1}, {2}, {4}]
    assert {table.settings.stage for table in tables} == {Stage.MEASURE}


@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupt_at_any_moment_leaves_the_best_table_so_far(workload, after):
    seen = []

    def interrupt(ranking):
        seen.append(ranking)
        if len(seen) == after:
            raise KeyboardInterrupt

    chosen = choose(bits=8)[:30]
    found = rank(workload, chosen, minibatches=2, effects=["E"], so_far=interrupt)
    assert held(found) == held(seen[-1])
    pd.testing.assert_frame_equal(found.table, seen[-1].table)


@pytest.mark.parametrize(("minibatches", "count"), [(3, 3), (6, 2)])
def test_yardsticks_of_few_mini_batches_are_measured_on_all(minibatches, count):
    found = rank(small_workload(6), ["FP134", "INT8"], minibatches=minibatches, yardsticks=True)
    assert [row["n_AE"] for row in found.settings.yardsticks] == [count, count]


def test_time_that_is_over_keeps_the_weights_that_were_measured(workload, monkeypatch):
    def two(*_):
        yield "FP134", 1.0
        raise Ended

    monkeypatch.setattr("search.ranking.weights_alone", two)
    found = rank(workload, ["FP134", "INT8"], minibatches=1, yardsticks=True)
    assert found.complete
    assert found.settings.weights_alone == {"FP134": 1.0}


def test_an_interrupt_while_yardsticks_are_measured_leaves_the_ranking(workload, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("search.ranking.measured_yardsticks", interrupt)
    found = rank(workload, ["FP134", "INT8"], minibatches=2, yardsticks=True)
    assert not found.complete
    assert (found.table.n_E == 2).all()
