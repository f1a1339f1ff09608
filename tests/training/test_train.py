"""Whole runs: learning, resuming, diverging, and what is refused."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint as recompute

import formats
from predictor.flow.dataflow import DataFlow
from predictor.gradients import activation_quantizer
from tests.training import small
from training import checkpoint, train
from training.methods import LSQ
from training.train import Outcome
from workloads import Workload

FULL = dict.fromkeys(("activation", "error", "weight", "gradient", "master"), "float32")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def kill_at(step, output):
    code = f"from tests.training.small import run_until_killed; run_until_killed({step}, {str(output)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, timeout=120, check=False, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def assert_same_run(whole, went_on):
    assert same(state(whole.model), state(went_on.model))
    columns = ["step", "epoch", "loss", "rate", "angle", "layer_angle", "flips", "flip_rate", "overflows", "underflows"]
    pd.testing.assert_frame_equal(whole.steps[columns], went_on.steps[columns], check_exact=True)
    pd.testing.assert_frame_equal(whole.epochs, went_on.epochs, check_exact=True)
    pd.testing.assert_frame_equal(whole.layers, went_on.layers, check_exact=True)


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    """Killed twice: before there is a checkpoint, and in the second epoch, past its newest one."""
    whole = train(small.workload(), output=tmp_path / "whole", **small.OPTIONS)
    output = tmp_path / "killed"
    kill_at(2, output)
    assert not (output / "checkpoint.safetensors").exists()
    # With the angle sampled at every fourth step, the 14th loss is that of step 11.
    kill_at(14, output)
    assert sorted(path.stem for path in (output / "layers").iterdir()) == [
        "00000003",
        "00000006",
        "00000008",
        "00000009",
    ]
    went_on = train(small.workload(), output=output, resume=True, **small.OPTIONS)
    assert_same_run(whole, went_on)
    assert same(*(load_file(folder / "checkpoint.safetensors") for folder in (tmp_path / "whole", output)))
    # Once more: there is nothing left to do.
    assert same(state(train(small.workload(), output=output, resume=True, **small.OPTIONS).model), state(whole.model))


@pytest.mark.parametrize(
    "options",
    [
        {"weight": "LOG4", "weight_rounding": "stochastic", "optimizer": "adamw"},
        {"weight": "BM43", "weight_rounding": "nearest", "scale": "current", "master": "bfloat16"},
    ],
    ids=["adamw", "blocks"],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, options):
    class Stop(Exception):
        pass

    def interrupt(at):
        if at.step == 14:
            raise Stop

    whole = train(small.workload(), output=tmp_path / "whole", **small.OPTIONS, **options)
    with pytest.raises(Stop):
        train(small.workload(), output=tmp_path / "part", **small.OPTIONS, **options, progress=interrupt)
    assert_same_run(whole, train(small.workload(), output=tmp_path / "part", resume=True, **small.OPTIONS, **options))


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


def test_full_precision_is_plain_torch():
    """With float32 for everything the harness is torch's own SGD, up to the order of a multiplication and an
    addition."""
    workload = small.workload()
    workload.model[6].p = 0.0
    found = train(workload, epochs=1, rate=0.05, schedule="constant", start="pretrained", angle_every=2, **FULL)
    model = workload.model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    losses = []
    for place in np.random.default_rng((0, 0)).permutation(8):
        optimizer.zero_grad()
        loss = workload.loss(model, workload.batches[place])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(found.steps.loss, losses, rtol=1e-5)
    # The angle of a gradient to itself, computed a second time with the network as it was.
    assert found.steps.angle.dropna().tolist() == [0.0] * 4
    assert found.layers.flips.isna().all()
    assert set(found.layers.angle) == {0.0}
    assert not found.layers.underflows.any()


def test_a_run_is_decided_by_its_seed_and_touches_nothing_else():
    workload = small.workload()
    before, generator = state(workload.model), torch.get_rng_state()
    runs = [train(workload, epochs=1, seed=seed) for seed in (0, 0, 1)]
    assert same(state(workload.model), before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert same(state(runs[0].model), state(runs[1].model))
    assert not same(state(runs[0].model), state(runs[2].model))
    assert not runs[0].model.training


def test_sampling_the_angle_changes_nothing():
    plain, sampled = train(small.workload(), epochs=1), train(small.workload(), epochs=1, angle_every=3)
    assert same(state(plain.model), state(sampled.model))
    angles = sampled.steps.angle
    assert angles.notna().tolist() == [True, False, False, True, False, False, True, False]
    assert angles.dropna().between(1, 60).all()


@pytest.mark.parametrize(
    "formats",
    [{}, {"weight": "float32"}, {"method": LSQ(), "activation": "FP134"}],
    ids=["all", "float32 weights", "method"],
)
def test_each_layer_has_its_angle_where_it_was_sampled(formats):
    found = train(small.workload(), epochs=1, angle_every=3, **formats)
    each = found.layers.dropna(subset="angle")
    assert set(each.step) == {1, 4, 7}
    assert set(each.kind) == {"W"}
    for step, rows in each.groupby("step"):
        assert sorted(rows.place) == ["0.weight", "3.weight", "8.weight"]
        row = found.steps[found.steps.step == step].iloc[0]
        assert rows.angle.mean() == pytest.approx(row.layer_angle)
        assert rows.angle.min() < row.angle < rows.angle.max()
    # Flips are counted once.
    weights = found.layers[(found.layers.kind == "W") & found.layers.flips.notna()]
    assert not weights.duplicated(["step", "place"]).any()


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


def test_the_metric_is_of_rounded_weights_and_activations():
    exact = train(small.workload(), activation="float32", epochs=1)
    assert exact.metric == small.accuracy(exact.model, small.workload().test[0])
    # Coarse, so that a rounded activation changes the answer.
    found = train(small.workload(), activation="E2M1", scale="current", epochs=1)
    images, labels = small.workload().test[0]
    with DataFlow(found.model) as flow:
        flow.activation = activation_quantizer(formats.get("E2M1"))
        rounded = float((found.model(images).argmax(1) == labels).float().mean())
    assert found.metric == rounded != small.accuracy(found.model, (images, labels))


def test_evaluating_leaves_no_trace():
    often, once = (train(small.workload(), epochs=2, metric_every=every) for every in (1, 2))
    assert same(state(often.model), state(once.model))
    assert once.epochs.metric.notna().tolist() == [False, True]
    assert once.metric == often.metric
    pd.testing.assert_frame_equal(often.layers, once.layers)


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


def test_a_gradient_that_is_not_finite_is_a_divergence():
    def loss(model, batch):
        return torch.sqrt(model(batch[0]).sum() * 0)  # 0, with an infinite derivative

    found = train(replace(small.workload(), loss=loss), epochs=1, **FULL)
    assert found.reason == "the gradient of 0.weight is not finite at step 1"


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    options = {"epochs": 1, "output": tmp_path}
    train(small.workload(), **options)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(FileExistsError, match="use --resume to go on from it or --force"):
        train(small.workload(), **options)
    for changed, message in (
        ({"error": "FP143"}, "made with error 'FP134', not 'FP143'"),
        ({"seed": 1}, "made with seed 0, not 1"),
        ({"weight_rounding": "nearest"}, "made with weight_rounding 'hysteresis', not 'nearest'"),
    ):
        with pytest.raises(ValueError, match=message):
            train(small.workload(), **options, resume=True, **changed)
    with pytest.raises(ValueError, match="made with first_batch"):
        train(small.workload(scale=2.0), **options, resume=True)
    with pytest.raises(ValueError, match="made with batches 8, not 9"):
        train(small.workload(9), **options, resume=True)
    other = small.workload()
    nn.init.zeros_(other.model[0].weight)
    with pytest.raises(ValueError, match="made with weights"):
        train(other, **options, resume=True)
    content = path.read_bytes()
    for cut in (0, 5, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="is cut short or no checkpoint") as caught:
            train(small.workload(), **options, resume=True)
        assert "\n" not in str(caught.value)
    train(small.workload(), **options, force=True)
    (tmp_path / "steps.parquet").unlink()
    with pytest.raises(ValueError, match=r"steps.parquet cannot be read"):
        train(small.workload(), **options, resume=True)


@pytest.mark.parametrize("failing", range(4), ids=["layers", "steps", "epochs", "checkpoint"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, failing):
    """Each file of the second checkpoint in turn is the one that does not fit."""
    options = {"epochs": 1, "checkpoint_every": 3}
    whole = train(small.workload(), output=tmp_path / "whole", **options)
    output, calls, fsync = tmp_path / "full", 0, os.fsync

    def fail(handle):
        nonlocal calls
        calls += 1
        if calls == 1 + 4 + failing + 1:  # after the settings and the first checkpoint's four
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        train(small.workload(), output=output, **options)
    assert Path(caught.value.filename).is_relative_to(output)
    assert checkpoint.read(output / checkpoint.NAME)[1]["step"] == 3
    assert_same_run(whole, train(small.workload(), output=output, resume=True, **options))


def test_one_run_at_a_time_in_a_folder(tmp_path):
    options = {"epochs": 1, "output": tmp_path}

    def start_another(at):
        for how in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(FileExistsError, match="is being written by another process"):
                train(small.workload(), **options, **how)

    assert train(small.workload(), **options, progress=start_another).outcome is Outcome.FINISHED
    assert train(small.workload(), **options, resume=True).outcome is Outcome.FINISHED


def test_names_and_numbers_that_mean_nothing_are_refused():
    for options, message in (
        ({"optimizer": "adam"}, "optimizer 'adam': allowed are sgd, adamw"),
        ({"schedule": "up"}, "schedule 'up': allowed are constant, cosine, steps"),
        ({"start": "here"}, "start 'here': allowed are scratch, pretrained"),
        ({"scale": "late"}, "scale 'late': allowed are delayed, current"),
        ({"weight_rounding": "up-ish"}, "weight rounding 'up-ish': allowed are"),
        ({"epochs": 0}, "epochs 0: a whole number of at least 1"),
        ({"rate": float("nan")}, "rate nan"),
        ({"error": "FP999"}, "unknown format 'FP999'"),
    ):
        with pytest.raises(ValueError, match=message):
            train(small.workload(), **{"epochs": 1, **options})
    with pytest.raises(TypeError, match="speed"):
        train(small.workload(), epochs=1, speed=3)


def test_schedules():
    def rates(**options):
        return train(small.workload(), epochs=1, **FULL, **options).steps.rate.to_numpy()

    assert rates(schedule="steps", rate=1e-3) == pytest.approx([1e-3] * 4 + [1e-4] * 2 + [1e-5] * 2)
    assert rates(schedule="constant", rate=1e-3, warmup=3) == pytest.approx([2.5e-4, 5e-4, 7.5e-4] + [1e-3] * 5)
    cosine = 1e-3 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    assert rates(schedule="cosine", rate=1e-3) == pytest.approx(cosine)


def test_a_start_from_scratch_needs_modules_that_can_be_reset():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4, 16))

        def forward(self, x):
            return x.flatten(1) @ self.w.T

    data = [(torch.randn(8, 1, 4, 4), torch.randint(0, 4, (8,)))]
    workload = Workload("bare", Bare(), data, small.loss)
    with pytest.raises(ValueError, match=r"layer \(network\) \(Bare\) has parameters and no reset_parameters"):
        train(workload, epochs=1)
    assert train(workload, epochs=1, start="pretrained").outcome is Outcome.FINISHED


def test_recomputed_activations_are_the_same_ones():
    """Checkpointing runs part of the forward pass twice; neither scales nor values may notice."""

    class Net(nn.Module):
        def __init__(self, again):
            super().__init__()
            self.first, self.second, self.again = nn.Linear(64, 16), nn.Linear(16, 4), again

        def forward(self, x):
            x = x.flatten(1)
            x = recompute(self.first, x, use_reentrant=False) if self.again else self.first(x)
            return self.second(torch.tanh(x))

    workload = small.workload()
    runs = [train(replace(workload, model=Net(again)), epochs=1, start="scratch") for again in (False, True)]
    assert same(state(runs[0].model), state(runs[1].model))
    assert runs[0].steps.loss.tolist() == runs[1].steps.loss.tolist()
