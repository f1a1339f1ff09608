"""Whole runs: learning, diverging, what is logged and told."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.training import small
from tests.training.small import FULL
from training import train
from training.loop import Outcome


def test_the_default_scheme_learns_as_full_precision_does():
    """Over seeds, since one run of so small a network tells little."""
    options = {"epochs": 8, "rate": 0.05}
    losses = {
        name: np.mean(
            [train(small.workload(), seed=seed, **options, **formats).epochs.loss.iloc[-1] for seed in range(3)]
        )
        for name, formats in (("full", FULL), ("default", {}), ("INT4", {"activation": "INT4", "error": "INT4"}))
    }
    assert losses["full"] < 0.5  # it does learn: 1.39 is chance
    assert losses["default"] < 1.15 * losses["full"]
    assert losses["INT4"] > 1.5 * losses["full"]  # and formats do matter


@pytest.mark.parametrize("weight", ["FP134", "LOG4"])
def test_hysteresis_flips_less(weight):
    flips = {
        rounding: train(
            small.workload(), epochs=4, rate=0.02, schedule="constant", weight=weight, weight_rounding=rounding
        ).steps.flips
        for rounding in ("hysteresis", "nearest", "stochastic")
    }
    late = {rounding: found.iloc[8:].sum() for rounding, found in flips.items()}
    assert late["hysteresis"] < late["nearest"] < late["stochastic"]


def test_what_is_logged():
    found = train(small.workload(), epochs=1)
    layers = found.layers
    first = layers[layers.step == 1]
    assert first.groupby("kind", observed=True).size().to_dict() == {"A": 7, "E": 6, "G": 3, "W": 3}
    assert set(first[first.kind == "W"].place) == {"0.weight", "3.weight", "8.weight"}
    # Two terms at the input (A) and at the last linear layer (E).
    assert first[first.term == 1][["kind", "place"]].to_numpy().tolist() == [["A", ":input"], ["E", "8:linear"]]
    weights = layers[layers.kind == "W"]
    assert (weights.groupby("step").flips.sum().to_numpy() == found.steps.flips.to_numpy()).all()
    assert (found.steps.flip_rate == found.steps.flips / (72 + 576 + 288)).all()
    # A delayed scale moves by at most one a step.
    tops = layers[layers.kind == "E"].pivot_table(
        index="step", columns=["place", "term"], values="top_low", observed=True
    )
    assert tops.diff().abs().max().max() <= 1
    assert found.epochs.metric.iloc[-1] == found.metric


def test_divergence_ends_the_run_and_keeps_its_checkpoint(tmp_path):
    workload = small.workload()
    broken = [*workload.batches[:7], (workload.batches[7][0] * float("nan"), workload.batches[7][1])]
    found = train(replace(workload, batches=broken), epochs=2, checkpoint_every=1, output=tmp_path)
    assert found.outcome is Outcome.DIVERGED
    place = int(np.flatnonzero(np.random.default_rng((0, 0)).permutation(8) == 7)[0])
    assert found.reason == f"the loss is nan at step {place + 1}"
    assert json.loads((tmp_path / "result.json").read_text())["outcome"] == "diverged"
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert all(tensor.isfinite().all() for tensor in kept.values())
    found = train(small.workload(), epochs=1, loss_bound=0.01)
    assert found.reason.startswith("the loss is 1.")
    assert found.reason.endswith("above 0.01 at step 1")
    assert found.metric is None
    assert found.epochs.empty


def test_one_run_at_a_time_in_a_folder(tmp_path):
    options = {"epochs": 1, "output": tmp_path}

    def start_another(at):
        for how in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(FileExistsError, match="is being written by another process"):
                train(small.workload(), **options, **how)

    assert train(small.workload(), **options, progress=start_another).outcome is Outcome.FINISHED
    assert train(small.workload(), **options, resume=True).outcome is Outcome.FINISHED
