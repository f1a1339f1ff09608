"""The loop that trains the bundled networks."""

from dataclasses import replace

import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import nn

from benchmarks.pretrain import __main__ as pretrain
from benchmarks.pretrain.pretrainings import PRETRAININGS, Data, Pretraining
from tests.processes import python
from workloads.bundled.networks import BUNDLED


def epoch(generator):
    for _ in range(3):
        x = torch.randn(8, 4, generator=generator)
        yield x, x.sum(1, keepdim=True)


def loss(model, batch):
    return (model(batch[0]).float() - batch[1]).square().mean()


SMALL = Pretraining(
    network=lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.0), nn.Linear(4, 1)),
    data=lambda: Data(3, epoch, lambda model: loss(model, next(epoch(torch.Generator().manual_seed(9)))).item()),
    loss=loss,
    optimizer=PRETRAININGS["lstm"].optimizer,
    epochs=3,
    rate=0.05,
    measure="square error",
)


def test_a_resumed_pretraining_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(pretrain.PRETRAININGS, "small", SMALL)
    pretrain.main("small", tmp_path / "whole")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == ["epoch 1/3", "epoch 2/3", "epoch 3/3", "small"]
    assert "test square error" in printed[0]

    def ended(model):
        raise KeyboardInterrupt

    data = SMALL.data()
    monkeypatch.setitem(pretrain.PRETRAININGS, "small", replace(SMALL, data=lambda: replace(data, metric=ended)))
    for _ in range(2):  # each time one epoch further
        with pytest.raises(KeyboardInterrupt):
            pretrain.main("small", tmp_path / "parts")
    monkeypatch.setitem(pretrain.PRETRAININGS, "small", SMALL)
    pretrain.main("small", tmp_path / "parts")
    assert capsys.readouterr().out.splitlines()[-2:-1] == printed[2:3]
    whole, parts = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert all(value.dtype is torch.float16 for value in whole.values())
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(typer.BadParameter, match="was made with"):
        pretrain.main("small", tmp_path / "parts", seed=1)
    with pytest.raises(typer.BadParameter, match="'smal' is not one of resnet18"):
        pretrain.main("smal", tmp_path)


@pytest.mark.slow
def test_the_command_trains_what_is_bundled():
    assert "Usage: python -m benchmarks.pretrain" in python("-m", "benchmarks.pretrain", "--help").stdout
    assert list(PRETRAININGS) == list(BUNDLED)
