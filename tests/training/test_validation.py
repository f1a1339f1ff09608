"""Validation: which formats are taken, what is trained once only, and how well angle and loss agree."""

import json
import re
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import training.same_seeds as module
from numeric_formats.files import hold
from tests.predictor import operands
from tests.training import small
from training import train
from training.validation import spread, validate

RANKING = pd.DataFrame(
    {
        "name": ["FP152", "FP125", "FP143", "FP134", "INT8", "FP133", "FP142", "FP124", "FP123", "FP132", "FP141"],
        "bits": [8, 8, 8, 8, 8, 7, 7, 7, 6, 6, 6],
        "angle_AE": [16.0, 4.0, 8.0, 2.0, 5.0, 9.0, 20.0, 12.0, 18.0, 30.0, 60.0],
    }
)


def test_the_spread_has_both_ends_and_even_steps_of_every_width():
    assert spread(RANKING, 9, "AE") == ["FP123", "FP132", "FP141", "FP133", "FP124", "FP142", "FP134", "INT8", "FP152"]
    assert spread(RANKING.sample(frac=1, random_state=0), 9, "AE") == spread(RANKING, 9, "AE")
    assert sorted(spread(RANKING, 11, "AE")) == sorted(RANKING["name"])
    of_one = RANKING[RANKING["bits"] == 8]
    # Angles 2, 4, 5, 8 and 16 are asked for at 2, 4, 8, 16.
    assert spread(of_one, 4, "AE") == ["FP134", "FP125", "FP143", "FP152"]


@pytest.mark.parametrize(
    ("arguments", "message"), [((2, "AE"), "3 to 11"), ((12, "AE"), "3 to 11"), ((6, "A"), "it has AE")]
)
def test_a_spread_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        spread(RANKING, *arguments)


def where(at):
    """Which run it is, of which format and seed, and how far it is, as the note and the count say."""
    run, runs, name, seed = re.match(r"run (\d+)/(\d+), (\S+) seed (\d+), epoch 1/1, loss \d", at.note).groups()
    return int(run), name, int(seed), at.done - (int(run) - 1) * at.total // int(runs)


def options(output):
    return {"output": output, "count": 3, "seeds": 2, "epochs": 1, "rate": 0.05}


@pytest.mark.slow
def test_runs_are_made_once_and_the_choice_stands_before_them(tmp_path, monkeypatch):
    few = RANKING[RANKING["bits"] == 8]
    few = few.assign(projection=few["name"].map({"FP134": 0.75, "INT8": 1.25, "FP152": 1.5}), bias=float("nan"))
    steps = []

    def stop(at):
        steps.append(where(at))
        if steps[-1] == (4, "FP152", 0, 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate(small.workload(), few, progress=stop, **options(tmp_path))
    assert json.loads((tmp_path / "choice.json").read_text())["formats"] == ["FP134", "INT8", "FP152"]
    # Seed by seed, not format by format, and float32 first.
    order = ("float32", "FP134", "INT8", "FP152")
    assert [entry for entry in steps if entry[3] == 1] == [(run, name, 0, 1) for run, name in enumerate(order, 1)]
    steps.clear()
    found = validate(
        small.workload(),
        few,
        progress=lambda at: steps.append(where(at)),
        **options(tmp_path),
    )
    assert [entry for entry in steps if entry[3] == 8] == [
        (4, "FP152", 0, 8),
        *((run, name, 1, 8) for run, name in enumerate(order, 5)),
    ]
    assert found.runs[["name", "seed"]].to_numpy().tolist() == [
        [n, s] for n in ("FP134", "INT8", "FP152") for s in (0, 1)
    ]
    assert found.runs["angle"].tolist() == [2, 2, 5, 5, 16, 16]
    own, full = (pd.read_csv(tmp_path / f"{name}-1" / "epochs.csv")["loss"].iloc[-1] for name in ("INT8", "float32"))
    assert found.runs["loss"].iloc[3] == pytest.approx(own)
    assert found.runs["gap"].iloc[3] == pytest.approx(own / full - 1)
    assert found.runs["angle_AE"].tolist() == found.runs["angle"].tolist()
    assert list(found.others) == ["angle_AE", "projection"]
    # Projections of 0.75, 1.25 and 1.5 are ordered by how far they are from 1; two are as far.
    mean = found.runs.groupby("name", sort=False)["loss"].mean()
    assert found.others["projection"].spearman == pytest.approx(spearmanr([0.25, 0.25, 0.5], mean).statistic)
    with pytest.raises(ValueError, match="made with epochs 1, not 2"):
        validate(small.workload(), few, **(options(tmp_path) | {"epochs": 2}))
    with pytest.raises(ValueError, match="not in the ranking"):
        validate(small.workload(), few, formats=["FP133"], **options(tmp_path))


@pytest.mark.slow
def test_what_is_rounded(tmp_path):
    few = RANKING[RANKING["bits"] == 8]
    once = options(tmp_path) | {"seeds": 1}
    validate(small.workload(), few, **once)
    settings = json.loads((tmp_path / "INT8-0" / "settings.json").read_text())
    assert [settings[role] for role in ("activation", "error", "weight", "gradient", "master")] == [
        "INT8",
        "INT8",
        *["float32"] * 3,
    ]
    all_of_it = once | {"output": tmp_path / "all", "weight": "same", "gradient": "same", "master": "FP169"}
    validate(small.workload(), few, **all_of_it)
    settings = json.loads((tmp_path / "all" / "INT8-0" / "settings.json").read_text())
    assert [settings[role] for role in ("activation", "error", "weight", "gradient", "master")] == [
        *["INT8"] * 4,
        "FP169",
    ]


def test_a_diverged_run_is_the_worst(tmp_path):
    few = RANKING[RANKING["bits"] == 8]
    found = validate(small.workload(), few, **(options(tmp_path) | {"seeds": 1}), loss_bound=0.01)
    assert found.runs["outcome"].tolist() == ["diverged"] * 3
    assert np.isinf(found.runs["loss"]).all()
    assert np.isnan(found.agreement.spearman)
    assert found.runs["gap"].isna().all()  # float32 diverged too


@pytest.mark.slow
def test_a_run_that_another_process_is_at_is_waited_for(tmp_path, monkeypatch):
    few = RANKING[RANKING["bits"] == 8]
    made, slept = [], []
    with ExitStack() as another:
        another.enter_context(hold(tmp_path / "FP134-0"))

        def sleep(seconds):
            slept.append(list(made))
            another.close()

        monkeypatch.setattr(module.time, "sleep", sleep)

        def note(at):
            _, name, seed, step = where(at)
            if step == 1:
                made.append((name, seed))

        found = validate(small.workload(), few, progress=note, **options(tmp_path))
    first, second = (
        [(name, seed) for name in ("float32", "FP134", "INT8", "FP152") if (name, seed) != ("FP134", 0)]
        for seed in (0, 1)
    )
    assert slept == [[*first, *second]]
    assert made == [*slept[0], ("FP134", 0)]
    assert len(found.runs) == 6


def test_formats_without_width_or_angle_stand_nowhere():
    some = RANKING.astype({"bits": "Int64"})
    with pytest.raises(ValueError, match="3 formats were asked for; 0 of the ranking have bits and an angle"):
        spread(some.assign(bits=pd.array([None] * len(some), "Int64")), 3, "AE")
    with pytest.raises(ValueError, match="0 of the ranking have bits and an angle"):
        spread(some.assign(angle_AE=float("nan")), 3, "AE")
    without = pd.concat([some, some.head(1).assign(name="own", bits=None)], ignore_index=True)
    assert spread(without, 3, "AE") == spread(some, 3, "AE")


def test_a_ranking_at_operands_is_trained_as_recipes(tmp_path):
    few = pd.DataFrame({"name": ["FP134", "INT4", "FP152"], "bits": [8, 4, 8], "angle_WAE": [2.0, 20.0, 10.0]})
    at = {"points": "operands", "exact": ["0"]}
    once = options(tmp_path) | {"seeds": 1}
    of = operands.workload()
    found = validate(of, few, **once, **at)
    assert found.settings["points"] == "operands"
    assert found.settings["effect"] == "WAE"
    runs = found.runs.set_index("name")
    one = train(of, recipe="INT4", exact=["0"], epochs=1, rate=0.05, seed=0)
    assert runs.loc["INT4", "loss"] == one.epochs["loss"].iloc[-1]
    assert runs["loss"].nunique() == 3
    assert runs["full_loss"].nunique() == 1
    assert "1 product with" in found.coverage[-1]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint.safetensors")}
    pd.testing.assert_frame_equal(validate(of, few, **once, **at).runs, found.runs)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint.safetensors")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": "INT8"}, "weight INT8 with a ranking at operands"),
        ({"gradient": "same", "master": "FP169"}, "gradient same, master FP169 with a ranking at operands"),
        ({"scheme": "current"}, "scheme current with a ranking at operands"),
        ({"two_terms": False}, "one term with a ranking at operands"),
        ({"points": "dataflow", "exact": ["0"]}, "say points operands"),
        ({"points": "wires"}, "points 'wires': allowed are dataflow, operands"),
    ],
)
def test_what_operands_are_not_trained_with(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        validate(operands.workload(), RANKING, **({"points": "operands"} | options(tmp_path) | arguments))
    assert not list(tmp_path.iterdir())
