"""What all methods share: resuming, what a checkpoint has to agree with, formats."""

import json
import signal

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.processes import python
from tests.training import small
from tests.training.methods.killed import ALL, options_of
from training import train
from training.methods import LSQ, DistributionAdaptiveInt8, UnifiedInt8


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of the runs that were killed, one of each method."""
    folder = tmp_path_factory.mktemp("killed")
    done = python("-m", "tests.training.methods.killed", folder, check=False)
    assert done.stdout.splitlines() == [f"{name} {signal.SIGKILL.value}" for name in ALL], done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, killed, name):
    whole = train(small.workload(), output=tmp_path / "whole", **options_of(name))
    assert len(pd.read_parquet(killed / name / "steps.parquet")) == 12
    went_on = train(small.workload(), output=killed / name, resume=True, **options_of(name))
    # Network, method's parameters and state, optimizer, random numbers.
    saved = [load_file(folder / "checkpoint.safetensors") for folder in (tmp_path / "whole", killed / name)]
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(saved[0][key], saved[1][key]) for key in saved[0])
    columns = ["step", "loss", "rate", "angle", "layer_angle", "flips", "flip_rate"]
    pd.testing.assert_frame_equal(whole.steps[columns], went_on.steps[columns], check_exact=True)
    pd.testing.assert_frame_equal(whole.epochs, went_on.epochs, check_exact=True)
    assert whole.method_state.state() == went_on.method_state.state()


def test_a_checkpoint_of_other_options_is_refused(tmp_path):
    options = {"epochs": 1, "output": tmp_path}
    train(small.workload(1), method=UnifiedInt8(period=50), **options)
    for other in (UnifiedInt8(period=60), UnifiedInt8(period=50, format="FP134"), DistributionAdaptiveInt8(), None):
        with pytest.raises(ValueError, match="was made with"):
            train(small.workload(1), method=other, **options, resume=True)
    assert json.loads((tmp_path / "settings.json").read_text())["method"]["alpha"] == 20


def test_a_method_leaves_the_formats_at_float32_unless_they_are_given():
    found = train(small.workload(1), method=LSQ(), epochs=1)
    assert [found.settings[role] for role in ("activation", "error", "weight", "gradient", "master")] == ["float32"] * 5
    found = train(small.workload(1), method=LSQ(), epochs=1, error="FP134", master="FP169")
    assert (found.settings["error"], found.settings["master"]) == ("FP134", "FP169")
    assert set(found.layers.kind) == {"E"}
