"""Quantization after training where weights are shared, computed, or differentiated."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training.computed import ways
from training import train
from training.calibration import AdaRound, begin_from, quantize
from training.calibration.equalization import equalize
from training.calibration.network import Network
from training.methods import LSQ
from workloads import Workload


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


class Tied(nn.Module):
    """Two layers with one Parameter (or one bias), with channels of very different sizes."""

    def __init__(self, norm=False, share="weight"):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)
        self.fc1.weight.data *= (4.0 ** torch.arange(8))[:, None] * 2.0**-6
        setattr(self.fc2, share, getattr(self.fc1, share))
        self.n1, self.n2 = (nn.BatchNorm1d(8), nn.BatchNorm1d(8)) if norm else (nn.Identity(), nn.Identity())
        for n in (self.n1, self.n2) if norm else ():
            n.running_var.uniform_(0.2, 5)
            n.running_mean.normal_()
            n.weight.data.uniform_(0.5, 2)

    def forward(self, x):
        return self.n2(self.fc2(F.relu(self.n1(self.fc1(x)))))


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 8, generator=generator), torch.randint(0, 8, (16,), generator=generator)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("share", ["weight", "bias"])
def test_float32_stays_what_it_was(norm, share):
    model, data = Tied(norm, share).eval(), batch()
    network = Network(model)
    equalize(network)
    torch.testing.assert_close(network.module(data[0]), model(data[0]), rtol=1e-4, atol=1e-3)
    assert not network.folded
    steps = quantize(
        Workload("tied", model, [data], loss), "float32", "float32", adaround=None, bias_correction="empirical"
    ).steps
    expected = loss(model, data).item()
    assert [step.loss for step in steps] == pytest.approx([expected] * len(steps), rel=1e-5)


def test_one_weight_is_rounded_once():
    model, data = Tied().eval(), batch()
    found = quantize(Workload("tied", model, [data], loss), "INT4", "float32", adaround=AdaRound(iterations=5))
    assert found.network.fc1.weight is found.network.fc2.weight
    step = found.codes.thresholds["fc1"] / 7
    assert torch.equal(found.codes.thresholds["fc1"], found.codes.thresholds["fc2"])
    rounded = (model.fc1.weight / step).round().clamp(-7, 7) * step
    torch.testing.assert_close(found.network.fc1.weight.detach(), rounded.detach(), rtol=1e-6, atol=0)


class Language(nn.Module):
    def __init__(self, tied):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mid, self.head = nn.Embedding(32, 16), nn.Linear(16, 16), nn.Linear(16, 32, bias=False)
        self.position = nn.Embedding(6, 16)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, t):
        return self.head(F.relu(self.mid(self.embed(t) + self.position.weight)))


def of_tokens(model, b):
    return F.cross_entropy(model(b)[:, :-1].flatten(0, 1), b[:, 1:].flatten())


def test_a_head_that_is_tied_to_the_embedding(tmp_path):
    tokens = torch.randint(0, 32, (8, 6), generator=torch.Generator().manual_seed(2))
    tied = Workload("tied", Language(True), [tokens], of_tokens)
    found = quantize(tied, "INT2", "float32", adaround=None, output=tmp_path / "run")
    # The embedding reads what the head was rounded to, and the report does not call it float32.
    assert found.kept == ("position.weight",)
    assert found.network.embed.weight is found.network.head.weight
    assert found.network.embed.weight.unique().numel() <= 3
    steps = {step.name: step.loss for step in found.steps}
    assert all(
        value == pytest.approx(steps["float32"], rel=1e-5) for name, value in steps.items() if "weights" not in name
    )
    assert steps["weights to nearest"] == pytest.approx(of_tokens(found.model, tokens).item(), rel=1e-6)
    # Codes for both, and a training that begins from them by the name that the weight has.
    assert [entry.parameter for entry in found.codes.exported()] == ["mid.weight", "head.weight"]
    _, ranges = begin_from(tmp_path / "run", tied)
    assert set(ranges.weights) == {"embed.weight", "mid.weight"}
    apart = quantize(Workload("apart", Language(False), [tokens], of_tokens), "INT2", "float32", adaround=None)
    assert set(apart.kept) == {"embed", "position.weight"}


KINDS = ways(9)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("adaround", [None, AdaRound(iterations=3)], ids=["nearest", "adaround"])
@pytest.mark.filterwarnings("ignore:.*_norm.*:FutureWarning")
def test_the_weight_that_the_product_sees_is_quantized(name, adaround):
    torch.manual_seed(0)
    model = nn.Sequential(KINDS[name](nn.Conv1d(4, 8, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    data = torch.randn(16, 4, 8), torch.randint(0, 4, (16,))
    model(data[0])  # leaves a tensor of autograd's in the older kinds
    workload = Workload(name, model, [data], loss)
    model.eval()
    expected = loss(model, data).item()
    found = quantize(workload, "INT2", "float32", adaround=adaround)
    assert found.steps[0].loss == pytest.approx(expected, rel=1e-6)
    assert found.model.get_submodule("0").weight.unique().numel() <= 3
    assert found.steps[-1].loss == pytest.approx(loss(found.model, data).item(), rel=1e-6)
    same = quantize(workload, "float32", "float32", adaround=None)
    assert same.steps[-1].loss == pytest.approx(expected, rel=1e-5)
    # The user's own network is as it was, and can be trained by a method.
    assert loss(model, data).item() == pytest.approx(expected, rel=1e-6)
    assert train(workload, method=LSQ(), epochs=1, start="pretrained").steps.loss.notna().all()


def test_a_loss_with_a_derivative_inside():
    """Weights are quantized, and the loss is torch's with these weights; activations have no derivative to quantize."""

    def penalized(model, b):
        x = b[0].clone().requires_grad_()
        error = F.cross_entropy(model(x), b[1])
        return error + torch.autograd.grad(error, x, create_graph=True)[0].square().sum()

    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(8, 16), nn.Softplus(), nn.Linear(16, 8)), batch()
    workload = Workload("gp", model, [data], penalized)
    found = quantize(workload, "INT4", "float32", adaround=AdaRound(iterations=3))
    assert found.steps[0].loss == pytest.approx(penalized(model, data).item(), rel=1e-6)
    own = nn.Sequential(nn.Linear(8, 16), nn.Softplus(), nn.Linear(16, 8))
    own.load_state_dict({key: value.clone() for key, value in found.network.state_dict().items()})
    assert found.steps[-1].loss == pytest.approx(penalized(own, data).item(), rel=1e-5)
    with pytest.raises(ValueError, match="quantized activations have no derivative; give activations='float32'"):
        quantize(workload, "INT4", "INT8", adaround=None)
    assert all(p.requires_grad for p in model.parameters())


def test_a_quantization_says_what_it_covers():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.w = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 8))

        def forward(self, x):
            return self.a(x) @ self.w

    found = quantize(Workload("mixed", Mixed(), [batch()], loss), "INT8", "float32", adaround=None)
    # Of two products of the same size one, and of 8 * 8 + 8 + 8 * 8 parameters 64.
    assert (
        found.covered.sentence
        == "quantized: 1 product with 50% of the multiply-accumulates, and 47.06% of the parameters"
    )
    assert (
        found.covered.remainder == "left in float32: (network):mm (only convolution and linear modules are quantized)"
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_regions_of_16_bits_are_computed_in_float32(dtype):
    class Region(nn.Module):
        def __init__(self, on):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.on = nn.Linear(8, 16), nn.Linear(16, 8), on

        def forward(self, x):
            with torch.autocast("cpu", dtype, enabled=self.on):
                return self.b(F.relu(self.a(x))).float()

    steps = [
        [
            step.loss
            for step in quantize(Workload("r", Region(on), [batch()], loss), "INT4", "INT8", adaround=None).steps
        ]
        for on in (False, True)
    ]
    assert steps[0] == steps[1]
