"""The pipeline on small networks: steps, results, resuming, exports, and what it refuses."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import formats
from tests.training import small
from tests.training.calibration import killed, nets
from training.calibration import AdaRound, Network, quantize
from training.calibration.equalize import absorb, chains, equalize
from training.calibration.grids import Affine, OwnScales
from training.calibration.ranges import find_range, normalized_range, percentile_range
from training.export import codes
from workloads import Workload

QUICK = {"minibatches": 3, "adaround": AdaRound(iterations=60)}


@pytest.fixture(scope="module")
def workload():
    return nets.trained()


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
        result.run.exported()


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    command = [sys.executable, "-m", "tests.training.calibration.killed", str(tmp_path / "killed")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], check=False, capture_output=True, timeout=300)
    assert done.returncode == -9, done.stderr
    kept = sorted(path.name for path in (tmp_path / "killed" / "adaround").iterdir())
    assert kept == ["0000.safetensors", "0001.unfinished.safetensors"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        workload = nets.trained(8)
        resumed = quantize(workload, output=tmp_path / "killed", resume=True, **killed.OPTIONS)
        whole = quantize(workload, output=tmp_path / "whole", **killed.OPTIONS)
    finally:
        torch.set_num_threads(threads)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor)
    assert resumed.steps == whole.steps
    assert (tmp_path / "killed" / "result.json").read_bytes() == (tmp_path / "whole" / "result.json").read_bytes()
    assert not (tmp_path / "killed" / "activations").exists()


def test_exports_compute_what_the_model_computes(workload, tmp_path):
    found = quantize(workload, "INT4", "INT8", adaround=None, per_channel=True, minibatches=2, rank_layers=False)
    x, _ = small.images(64, 7)
    expected = found.model(x).detach()
    codes.export_to(tmp_path / "net.safetensors", workload, found.network, found.run)
    loaded = codes.load(tmp_path / "net.safetensors", found.network)
    assert torch.equal(loaded(x), expected)
    codes.export_to(tmp_path / "net.onnx", workload, found.network, found.run)
    # What the file says, operation by operation; onnxruntime's own fusions into integer products round otherwise near
    # ties.
    plainly = onnxruntime.SessionOptions()
    plainly.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", plainly, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": x.numpy()})
    assert np.linalg.norm(got - expected.numpy()) <= 1e-6 * np.linalg.norm(expected)


class Residual(nn.Module):
    """A block with a branch, whose first layer alone can be equalized with its second."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = (
            nn.Conv2d(1, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
        )
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.norm(self.b(self.a(x).relu()))).relu()
        return self.head(x.mean((2, 3)))


def test_only_what_nothing_else_reads_is_equalized():
    torch.manual_seed(0)
    network, x = Network(Residual().eval()), torch.randn(2, 1, 8, 8)
    assert [chain.name for chain in chains(network)] == ["a -> b"]
    assert network.folded == ["b"]
    before = network.module(x)
    equalize(network)
    assert torch.allclose(network.module(x), before, rtol=0, atol=1e-5)


def test_relu6_keeps_its_function_by_caps():
    model, x = nets.depthwise(nn.ReLU6, 1), 20 * torch.randn(4, 3, 8, 8)
    network = Network(model)
    before = network.module(x)
    assert (before != Network(nets.depthwise(nn.ReLU, 1)).module(x)).any()
    equalize(network)
    assert (network.module(x) - before).abs().max() < 1e-5 * before.abs().max()
    assert Network(model).replace_relu6() == 2


def test_flattened_channels_and_transposed_convolutions_are_equalized():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.ConvTranspose2d(2, 6, 2, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(), nn.MaxPool2d(2)),
        *(nn.ConvTranspose2d(6, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)),
    )
    model(torch.randn(50, 2, 3, 3))
    model.eval()
    x = torch.randn(6, 2, 3, 3)
    network = Network(model)
    assert torch.allclose(network.module(x), model(x), rtol=0, atol=1e-5)
    assert [chain.name for chain in chains(network)] == ["0 -> 4", "4 -> 7"]
    equalize(network)
    assert torch.allclose(network.module(x), model(x), rtol=0, atol=1e-5)


def test_dead_channels_stay():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    model[0].weight.data[2] = 0
    model[2].weight.data[:, 3] = 0
    network, x = Network(model), torch.randn(9, 4)
    equalize(network)
    assert torch.allclose(network.module(x), model(x), rtol=0, atol=1e-5)


def test_absorption_without_data_takes_three_deviations():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).eval()
    model[1].bias.data = torch.tensor([4.0, 2.0, -1.0, 3.5, 0.0])
    (amount,) = absorb(Network(model)).values()
    assert amount.tolist() == [1.0, 0.0, 0.0, 0.5, 0.0]


def test_ranges_without_data_and_of_percentiles():
    gamma, beta = torch.tensor([0.5, -1.0]), torch.tensor([1.0, 0.5])
    found = [normalized_range(gamma, beta, kind) for kind in ("none", "relu", "relu6")]
    assert [(each.low.item(), each.high.item()) for each in found] == [(-5.5, 6.5), (0.0, 6.5), (0.0, 6.0)]
    assert normalized_range(gamma, beta, per_channel=True).low.tolist() == [-2.0, -5.5]
    x = torch.arange(10001.0)
    one, two = percentile_range([x], 99), percentile_range([x - 5000], 99)
    assert (one.low.item(), one.high.item()) == (0.0, 9900.0)
    assert (two.low.item(), two.high.item()) == (-4950.0, 4950.0)
    with pytest.raises(ValueError, match="finite numbers are needed"):
        find_range(torch.tensor([1.0, torch.nan]), Affine(8))


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_is_refused_by_the_name_of_the_module():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Branching()))
    with pytest.raises(ValueError, match=r"^module 1\.0 \(Branching\) cannot be traced by torch\.fx: [^\n]*$"):
        Network(model)
    with pytest.raises(ValueError, match="no convolution or linear module"):
        Network(nn.ReLU())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": False}, "without folding there is nothing to equalize"),
        ({"weights": "NVFP4"}, "no single scale"),
        ({"absorb": "some"}, "absorb 'some': allowed are off, all, exact"),
        ({"weight_range": "cross-entropy"}, "it is for logits"),
        ({"percentile": 40}, "percentile 40"),
        ({"minibatches": 0}, "minibatches 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(workload, options, message):
    with pytest.raises(ValueError, match=message):
        quantize(workload, **options)


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
