"""What decides a run: its seed, and nothing that happened on the way; a run that was ended goes on to the same bits."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint as recompute

from tests.training import small
from tests.training.runs import assert_same_run, kill_at, same, state
from training import train


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_killed_run_of_scheme_authors_goes_on_to_the_same_bits(tmp_path):
    """Killed while scales settle, and past the newest checkpoint."""
    options = {"scheme": "authors,settling=5", "weight": "LOG4", "hysteresis_epochs": 1}
    options |= {"dampening": 0.01, "freezing": "0.02:0.001"}
    whole = train(small.workload(), output=tmp_path / "whole", **small.OPTIONS, **options)
    output = tmp_path / "killed"
    kill_at(4, output, **options)
    assert not (output / "checkpoint.safetensors").exists()
    # After 5 passes, with the angle sampled at every fourth step, the 19th loss is that of step 11.
    kill_at(19, output, **options)
    assert max(path.stem for path in (output / "layers").iterdir()) == "00000009"
    went_on = train(small.workload(), output=output, resume=True, **small.OPTIONS, **options)
    assert_same_run(whole, went_on)
    assert whole.metric == went_on.metric == whole.epochs.metric.max()
    assert same(*(load_file(folder / "checkpoint.safetensors") for folder in (tmp_path / "whole", output)))


@pytest.mark.parametrize(
    "options",
    [
        {"weight": "LOG4", "weight_rounding": "stochastic", "optimizer": "adamw"},
        {"weight": "BM43", "weight_rounding": "nearest", "scale": "current", "master": "bfloat16"},
        {"weight": "INT4", "scheme": "authors,settling=3", "hysteresis_epochs": 1},
        {"weight": "LOG4", "weight_rounding": "stochastic", "scheme": "authors,settling=3", "optimizer": "adamw"},
        {"weight": "INT4", "weight_rounding": "nearest", "dampening": "0:0.01", "freezing": "0.02:0.001"},
    ],
    ids=["adamw", "blocks", "authors", "authors adamw", "dampened and frozen"],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, options):
    class Stop(Exception):
        pass

    def interrupt(at):
        if at.done == 14:
            raise Stop

    whole = train(small.workload(), output=tmp_path / "whole", **small.OPTIONS, **options)
    with pytest.raises(Stop):
        train(small.workload(), output=tmp_path / "part", **small.OPTIONS, **options, progress=interrupt)
    assert_same_run(whole, train(small.workload(), output=tmp_path / "part", resume=True, **small.OPTIONS, **options))


def test_a_run_is_decided_by_its_seed_and_touches_nothing_else():
    workload = small.workload()
    before, generator = state(workload.model), torch.get_rng_state()
    runs = [train(workload, epochs=1, seed=seed) for seed in (0, 0, 1)]
    assert same(state(workload.model), before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert same(state(runs[0].model), state(runs[1].model))
    assert not same(state(runs[0].model), state(runs[2].model))
    assert not runs[0].model.training


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
