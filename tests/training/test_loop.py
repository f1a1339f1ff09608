"""Whole runs: learning, diverging, what is told."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.training import small
from tests.training.small import FULL
from training import train
from training.result import Outcome


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_every_step_is_told():
    told = []
    found = train(small.workload(), epochs=2, metric_every=2, progress=told.append)
    assert [(at.stage, at.done, at.total) for at in told] == [("step", step, 16) for step in range(1, 17)]
    losses = [f"{loss:.4f}" for loss in found.steps.loss]
    # The metric is told from the epoch on that has one.
    notes = [f"epoch {1 + step // 8}/2, loss {losses[step]}" for step in range(16)]
    assert [at.note for at in told] == [*notes[:-1], f"{notes[-1]}, metric {found.metric:.4f}"]
