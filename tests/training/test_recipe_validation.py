"""Recipes of a table are trained, and its numbers held against the gaps."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import formats
from tests.training import small
from tests.training.small import FULL
from training import train, validate_recipes

OWN = formats.recipe("own", base="mxfp4", dgrad={"rounding": {"dy": "stochastic"}})
TABLE = pd.DataFrame(
    {
        "rank": pd.array([1, 2, None, 3], dtype="Int64"),
        "recipe": ["bf16", "own", "own", "FP133+E5M2/real"],
        "angle": [0.5, 40.0, 1.0, 20.0],
        "angle_of_mean": [0.5, 30.0, 1.0, 20.0],
        "projection": [1.0, 1.3, 1.0, 0.9],
        "bias": [0.0, 0.2, 0.0, np.nan],
        "loss": [0.0, 0.2, 0.1, 0.1],
    }
)
OPTIONS = {"epochs": 1, "rate": 0.05}


def test_trainings_and_what_predicts_them(tmp_path):
    of = small.workload(2)
    found = validate_recipes(of, TABLE, output=tmp_path, recipes=[OWN], exact=["0"], **OPTIONS)
    runs = found.runs.set_index(["recipe", "seed"])
    assert list(runs.index) == [(name, seed) for name in ("bf16", "own", "FP133+E5M2/real") for seed in (0, 1)]
    full = train(of, **FULL, **OPTIONS, seed=1)
    one = train(of, recipe="FP133+E5M2/real", exact=["0"], **OPTIONS, seed=1)
    row = runs.loc[("FP133+E5M2/real", 1)]
    assert (row["loss"], row["full_loss"]) == (one.epochs["loss"].iloc[-1], full.epochs["loss"].iloc[-1])
    assert row["gap"] == row["loss"] / row["full_loss"] - 1
    assert (row["angle_of_mean"], row["projection"], row["added_loss"]) == (20.0, 0.9, 0.1)
    # The bias of one is not known.
    assert set(found.agreements) == {"angle_of_mean", "angle", "projection", "added_loss"}
    gaps = found.runs.groupby("recipe", sort=False)["gap"].mean()
    for name, values in (("angle_of_mean", [0.5, 30, 20]), ("projection", [0, 0.3, 0.1])):
        assert found.agreements[name].spearman == pytest.approx(stats.spearmanr(values, gaps).statistic)
    assert "recipe bf16: 1 product with" in found.coverage[-1]
    assert (tmp_path / "FP133+E5M2_real-1" / "result.json").exists()
    assert json.loads((tmp_path / "choice.json").read_text())["recipes"]["own"] == OWN.digest
    # Nothing is trained a second time.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint.safetensors")}
    again = validate_recipes(of, TABLE, output=tmp_path, recipes=[OWN], exact=["0"], **OPTIONS)
    pd.testing.assert_frame_equal(again.runs, found.runs)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint.safetensors")}
    with pytest.raises(ValueError, match="head False, not True"):
        validate_recipes(of, TABLE, output=tmp_path, recipes=[OWN], exact=["0"], head=True, **OPTIONS)


def test_what_cannot_be_trained_is_refused(tmp_path):
    (tmp_path / "own.toml").write_text('x = "FP134"')
    named_as_file = TABLE.replace({"recipe": {"own": str(tmp_path / "own.toml")}})
    other = TABLE.copy()
    other.attrs = {"recipes": {"own": "another"}}
    for table, given, match in (
        (TABLE[:1], {}, "the table has 1 recipes; 3 or more are needed"),
        (TABLE, {}, "recipe 'own' of the table is neither a preset nor a format: give the recipe or its file too"),
        (named_as_file, {}, "own.toml' of the table is neither a preset nor a format"),
        (other, {"recipes": [OWN]}, "recipe 'own' is another one than was measured"),
        (TABLE, {"recipes": [OWN, "mxfp8"]}, "recipe 'mxfp8' is not in the table; it has bf16, own, FP133"),
        (TABLE, {"recipes": [OWN], "seeds": 0}, "0 seeds"),
    ):
        with pytest.raises(ValueError, match=match):
            validate_recipes(small.workload(), table, output=tmp_path / "out", **OPTIONS, **given)
    assert not (tmp_path / "out").exists()
