"""Runs side by side, and runs that are killed."""

import signal

import pandas as pd
import torch

from tests.processes import python


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def kill_at(step, output, **options):
    code = (
        f"from tests.training.small import run_until_killed; run_until_killed({step}, {str(output)!r}, **{options!r})"
    )
    done = python("-W", "error", "-c", code, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def assert_same_run(whole, went_on):
    assert same(state(whole.model), state(went_on.model))
    columns = ["step", "epoch", "loss", "rate", "angle", "layer_angle"]
    columns += ["flips", "flip_rate", "flips_by_scale", "oscillation", "overflows", "underflows"]
    pd.testing.assert_frame_equal(whole.steps[columns], went_on.steps[columns], check_exact=True)
    pd.testing.assert_frame_equal(whole.epochs, went_on.epochs, check_exact=True)
    pd.testing.assert_frame_equal(whole.layers, went_on.layers, check_exact=True)
