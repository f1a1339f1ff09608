"""The pipeline on small networks: steps, results, resuming, exports, and what it refuses."""

import copy
import errno
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import formats
from tests.processes import python
from tests.training import small
from tests.training.calibration import killed, networks
from training import checkpoint, train
from training.calibration import AdaRound, Network, quantize
from training.calibration.grids import OwnScales
from training.export import codes
from workloads import Workload

QUICK = {"minibatches": 3, "adaround": AdaRound(iterations=60)}


@pytest.fixture(scope="module")
def result(workload):
    return quantize(workload, "INT3", "INT8", **QUICK)


def test_every_step_is_told_and_the_layers_are_ranked(workload, result):
    assert [step.name for step in result.steps] == [
        *("float32", "batch normalization folded", "equalized", "weights to nearest", "weights by AdaRound"),
        *("activations alone", "weights and activations"),
    ]
    steps = {step.name: step for step in result.steps}
    assert steps["float32"].metric > 0.8
    assert steps["equalized"].loss == pytest.approx(steps["float32"].loss, rel=1e-4)
    assert steps["weights by AdaRound"].loss < steps["weights to nearest"].loss
    assert steps["weights and activations"].metric > steps["float32"].metric - 0.1
    assert sorted(layer.layer for layer in result.layers) == ["0", "3", "8"]
    totals = [layer.total for layer in result.layers]
    assert totals == sorted(totals, reverse=True)
    assert all(layer.rounded <= layer.nearest for layer in result.layers)
    # The last step is what the model computes.
    assert steps["weights and activations"].metric == workload.metric(result.model, workload.test[0])
    x, _ = small.images(16, 4)
    for again in (copy.deepcopy(result.model), pickle.loads(pickle.dumps(result.model))):
        assert torch.equal(again(x), result.model(x))
    for layer in (result.network.get_submodule(name) for name in ("0", "3", "8")):
        assert len(layer.weight.unique()) <= 7


def test_weights_that_are_left_alone_and_formats_of_all_kinds(workload):
    off = {"adaround": None, "minibatches": 2, "rank_layers": False}
    names = [step.name for step in quantize(workload, "float32", "FP134", **off).steps]
    assert names[-1] == "activations"
    for weights, activations in (("E4M3", "E4M3"), ("LOG4", "FP134"), ("NF4", "float32")):
        found = quantize(workload, weights, activations, bias_correction="analytic", per_channel=True, **off)
        assert found.steps[-1].metric > 0.5
    for rule in ("minmax", "percentile", "bn"):
        found = quantize(workload, "INT8", "INT8", activation_range=rule, bias_correction="empirical", **off)
        assert found.steps[-1].metric >= found.steps[0].metric - 0.05


def test_seeds_draw_other_minibatches(workload):
    """A seed decides what AdaRound sees, and nothing else does."""
    quick = {"minibatches": 3, "adaround": AdaRound(iterations=20), "rank_layers": False}
    first, same, other = (
        quantize(workload, "INT3", "float32", seed=seed, **quick).network.state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def rows(weight):
    return weight.movedim(1, -1).reshape(len(weight), -1)


@pytest.mark.parametrize("format", ["MXFP6-E2M3", "BM33", "INT4/block32"])
def test_formats_with_scales_of_blocks(workload, format):
    """Blocks of weights lie along what a product sums over, those of activations along channels."""
    made = formats.get(format)
    result = quantize(workload, format, format, equalize=False, absorb="off", **QUICK)
    assert result.steps[-1].metric > result.steps[0].metric - 0.1
    for layer in Network(workload.model).layers:
        weight, top = layer.weight, made.find_top(rows(layer.weight))
        after, place = (
            result.network.get_submodule(layer.name).weight.data,
            OwnScales(made).neighbours(weight, torch.zeros(())),
        )
        low, high = (made.round(rows(weight).double(), top=top, rounding=mode) for mode in ("down", "up"))
        assert torch.equal(rows(place.low), low)
        assert torch.equal(rows(place.high), high)
        assert ((rows(after) == low) | (rows(after) == high)).all()
    assert (after != OwnScales(made).weight(weight, torch.zeros(()))).any()
    x = torch.randn(2, 40, 3, 3)
    by_channels = made.round(x.movedim(1, -1).contiguous()).movedim(-1, 1)
    assert torch.equal(
        OwnScales(made)(x, torch.zeros(()), torch.zeros(())), made.round(x) if format == "BM33" else by_channels
    )
    with pytest.raises(ValueError, match=f"{format} has scales of blocks, which exported files do not hold"):
        result.codes.exported()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    done = python("-m", "tests.training.calibration.killed", tmp_path / "killed", check=False)
    assert done.returncode == -9, done.stderr
    kept = sorted(path.name for path in (tmp_path / "killed" / "adaround").iterdir())
    assert kept == ["0000.safetensors", "0001.unfinished.safetensors"]
    workload = networks.trained(8)
    resumed = quantize(workload, output=tmp_path / "killed", resume=True, **killed.OPTIONS)
    whole = quantize(workload, output=tmp_path / "whole", **killed.OPTIONS)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor)
    assert resumed.steps == whole.steps
    assert (tmp_path / "killed" / "result.json").read_bytes() == (tmp_path / "whole" / "result.json").read_bytes()
    assert not (tmp_path / "killed" / "activations").exists()


@pytest.mark.slow
def test_exports_compute_what_the_model_computes(workload, tmp_path):
    found = quantize(workload, "INT4", "INT8", adaround=None, per_channel=True, minibatches=2, rank_layers=False)
    x, _ = small.images(64, 7)
    expected = found.model(x).detach()
    codes.export_to(tmp_path / "net.safetensors", workload, found.network, found.codes)
    loaded = codes.load(tmp_path / "net.safetensors", found.network)
    assert torch.equal(loaded(x), expected)
    codes.export_to(tmp_path / "net.onnx", workload, found.network, found.codes)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (got,) = session.run(None, {"input": x.numpy()})
    assert np.linalg.norm(got - expected.numpy()) <= 1e-6 * np.linalg.norm(expected)


def test_layers_that_are_called_twice_are_quantized_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.b(self.a(self.a(x).relu()).relu())

    torch.manual_seed(0)
    data = [(torch.randn(8, 4), torch.randint(0, 3, (8,)))]
    found = quantize(Workload("twice", Twice(), data, small.loss), "INT4", "INT8", adaround=AdaRound(iterations=5))
    assert {layer.layer: layer.rounded is None for layer in found.layers} == {"a": True, "b": False}
    assert len(found.network.a.weight.unique()) <= 15


def test_what_stays_in_float32_is_named(result):
    assert result.kept == ()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(7, 6),
        nn.TransformerEncoderLayer(6, 2, 12, batch_first=True),
        nn.Flatten(),
        nn.LayerNorm(24),
        nn.Linear(24, 3),
    )
    batches = [torch.randint(0, 7, (8, 4)) for _ in range(2)]
    mixed = Workload("mixed", model, batches, lambda m, x: m(x).square().mean())
    found = quantize(mixed, "INT4", "INT8", **QUICK | {"minibatches": 1})
    assert found.kept == ("0", "1")
    assert [layer.layer for layer in found.layers] == ["4"]
    assert found.plain()["kept"] == ["0", "1"]


def made(seed=0, batches=3, loss=small.loss):
    """Four linear layers, the two in the middle alike in shape, with calibration data of a seed."""
    torch.manual_seed(0)
    linear = [nn.Linear(*sizes) for sizes in ((6, 8), (8, 8), (8, 8), (8, 3))]
    model = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2], nn.ReLU(), linear[3])
    generator = torch.Generator().manual_seed(seed)
    data = [(torch.randn(8, 6, generator=generator), torch.arange(8) % 3) for _ in range(batches)]
    return Workload("made", model, data, loss)


FEW = {"adaround": AdaRound(iterations=8, checkpoint_every=3), "rank_layers": False, "minibatches": 3}


@pytest.fixture(scope="module")
def ended_once(tmp_path_factory):
    """The folder of a run that was ended in the third layer, past an unfinished checkpoint."""
    folder = tmp_path_factory.mktemp("ended") / "run"

    def end(at):
        if at.stage == "AdaRound" and at.done == 2 * 8 + 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(made(), output=folder, progress=end, **FEW)
    names = sorted(path.name for path in (folder / "adaround").iterdir())
    assert names == ["0000.safetensors", "0001.safetensors", "0002.unfinished.safetensors"]
    return folder


@pytest.fixture
def ended(ended_once, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(ended_once, tmp_path / "ended"))


def held(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weighted_loss(model, batch):
    return 2.0 * small.loss(model, batch)


def swapped(folder):
    one, other = folder / "adaround" / "0001.safetensors", folder / "adaround" / "0000.safetensors"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def layer_of_another_seed(folder):
    quantize(made(), output=folder / "other", seed=5, **FEW)
    (folder / "adaround" / "0001.safetensors").write_bytes(
        (folder / "other" / "adaround" / "0001.safetensors").read_bytes()
    )


def after_another_layer(folder):
    """All that the second layer is made with is the same, but for what the first has become."""
    path = folder / "adaround" / "0000.safetensors"
    tensors, state = checkpoint.read(path)
    checkpoint.write(path, {"weight": -tensors["weight"]}, state)


def changed_bit(folder):
    path = folder / "adaround" / "0001.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def of_training(name):
    def put(folder):
        train(small.workload(2), epochs=1, output=folder / "trained")
        (folder / "adaround" / name).write_bytes((folder / "trained" / checkpoint.NAME).read_bytes())

    return put


def edited(name, **changed):
    def edit(folder):
        path = folder / "adaround" / name
        tensors, state = checkpoint.read(path)
        checkpoint.write(path, tensors, {**state, **changed})

    return edit


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (swapped, "0000.safetensors was made with layer '2', not '0'"),
        (layer_of_another_seed, "0001.safetensors was made with seed 5, not 0"),
        (after_another_layer, "0001.safetensors was made with another run"),
        (changed_bit, "0001.safetensors is damaged"),
        (of_training("0001.safetensors"), "0001.safetensors was made with layer None, not '2'"),
        (of_training("0002.unfinished.safetensors"), "0002.unfinished.safetensors was made with layer None, not '4'"),
        (edited("0001.safetensors", rounded={}), "0001.safetensors does not hold what goes on here"),
        (edited("0001.safetensors", settings=3), "0001.safetensors holds no settings"),
        (edited("0002.unfinished.safetensors", iteration="3"), "0002.unfinished.safetensors does not hold"),
        (edited("0002.unfinished.safetensors", groups=None), "0002.unfinished.safetensors: groups is 'None'"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_what_is_kept_of_a_layer_is_that_layers(ended, damage, place):
    damage(ended)
    before = held(ended)
    with pytest.raises(ValueError, match=r"\A[^\n]+start with --force\Z") as caught:
        quantize(made(), output=ended, resume=True, **FEW)
    assert place in str(caught.value)
    assert held(ended) == before


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (lambda: made(seed=2), "another data"),
        (lambda: made(loss=weighted_loss), "another loss"),
        (lambda: made(batches=2), "another data"),
    ],
)
def test_a_run_goes_on_with_the_data_and_code_that_it_began_with(ended, other, what):
    before = held(ended)
    with pytest.raises(ValueError, match=rf"settings.json was made with {what} \(SHA-256 .*start with --force$"):
        quantize(other(), output=ended, resume=True, **FEW)
    assert held(ended) == before


@pytest.mark.slow
def test_an_ended_run_goes_on_to_the_same_bits(ended, tmp_path):
    resumed = quantize(made(), output=ended, resume=True, **FEW)
    whole = quantize(made(), output=tmp_path / "whole", **FEW)
    assert resumed.plain() == whole.plain()
    for name in ("network.safetensors", "result.json", *(f"adaround/000{k}.safetensors" for k in range(4))):
        assert (ended / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(list(ended.rglob("*"))) == len(list((tmp_path / "whole").rglob("*")))


def test_layers_that_cannot_be_removed_are_not_taken_for_new_ones(ended, monkeypatch):
    unlink = os.unlink

    def refuse(path, **given):
        if str(path).endswith("0001.safetensors"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        unlink(path, **given)

    settings = (ended / "settings.json").read_bytes()
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match=r"busy: '.*/adaround/0001.safetensors'$"):
        quantize(made(), "INT3", output=ended, force=True, **FEW)
    assert (ended / "settings.json").read_bytes() == settings
