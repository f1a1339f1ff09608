"""Which products of a network methods quantize, however they are written, and when they come."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.training.methods.helper import started
from training import train
from training.methods import (
    LSQ,
    METHODS,
    SLB,
    Compensation,
    DistributionAdaptiveInt8,
    LSQPlus,
    Octo,
    UnifiedInt8,
    combine,
    quantized,
)
from workloads import Workload


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def batches(count, *shape, seed=0, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(8, *shape, generator=generator), torch.randint(0, classes, (8,), generator=generator))
        for _ in range(count)
    ]


class Written(nn.Module):
    """Products that are no torch.nn.Linear."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.transposed = nn.Parameter(torch.randn(8, 4) / 3)
        self.stack, self.bias = nn.Parameter(torch.randn(5, 4, 4) / 2), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        y = F.linear(x, self.transposed.T)
        y = torch.addmm(self.bias, y, self.stack[0]).relu()
        y = torch.einsum("bi,ij->bj", y, self.stack[1])
        y = torch.matmul(self.stack[2], y.T).T + torch.tensordot(y, self.stack[3], 1)
        return F.linear(y, self.stack[4])


WEIGHTS = ["transposed", *(f"stack[{16 * k}:{16 * k + 16}]" for k in (0, 1, 2, 3, 4))]


@pytest.mark.parametrize("name", ["lsq", "lsqplus", "dai8", "ui8"])
def test_products_however_they_are_written(name):
    workload = Workload("written", Written(), batches(3, 8), loss)
    found = train(workload, method=METHODS[name](), epochs=1, start="pretrained", rate=0.01)
    assert sorted(layer.parameter for layer in found.method_state.layers.values()) == sorted(WEIGHTS)
    assert found.coverage == (
        "quantized: 6 products with 100% of the multiply-accumulates, and 96.55% of the parameters",
    )
    assert found.steps.loss.notna().all()


def test_the_numbers_are_those_of_linear_layers():
    """LSQ trains a Conv1D (addmm), an einsum and a transposed weight as it trains nn.Linear with the same values."""

    class Same(nn.Module):
        def __init__(self, written):
            super().__init__()
            torch.manual_seed(3)
            own = [torch.randn(6, 6) / 2 for _ in range(3)]
            self.weights = nn.ParameterList(
                [w.clone() if k == 2 else w.T.clone() if written else w for k, w in enumerate(own)]
            )
            self.written = written

        def forward(self, x):
            a, b, c = self.weights
            if not self.written:
                return F.linear(torch.relu(F.linear(torch.relu(F.linear(x, a)), b)), c)
            h = torch.relu(torch.addmm(torch.zeros(6), x, a))
            return F.linear(torch.relu(torch.einsum("bi,io->bo", h, b)), c)

    data = batches(6, 6)
    losses = [
        train(
            Workload("same", Same(written), data, loss), method=method, epochs=2, start="pretrained", rate=0.05
        ).steps.loss
        for method in (LSQ(per_channel=True), LSQ())
        for written in (False, True)
    ]
    for ours, theirs in (losses[:2], losses[2:]):
        assert ours.tolist()[:3] == pytest.approx(theirs.tolist()[:3], rel=1e-4)
        # Sums in other orders flip a code now and then.
        assert ours.tolist() == pytest.approx(theirs.tolist(), rel=0.03)


def test_steps_of_channels_go_along_the_output():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            return x @ self.w

    run, _ = started(LSQ(per_channel=True), Product(), torch.randn(3, 4))
    assert run.parameters["step.w"].shape == (1, 6)


@pytest.mark.parametrize(
    "method", [LSQ(), DistributionAdaptiveInt8(), Octo(include_linear=True)], ids=lambda m: m.about.name
)
def test_what_is_left_in_float32_is_told(method):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.attention = nn.Linear(4, 8), nn.MultiheadAttention(8, 2, batch_first=True)
            self.mix, self.head = nn.Bilinear(8, 8, 8), nn.Linear(8, 4)
            self.register_buffer("fixed", torch.randn(8, 8))

        def forward(self, x):
            h = self.embed(x)
            h = self.attention(h, h, h, need_weights=False)[0] @ self.fixed
            return self.head(self.mix(h, h)).mean(1)

    found = train(Workload("w", Attention(), batches(1, 3, 4), loss), method=method, epochs=1)
    first, left = found.coverage
    assert first.startswith("quantized: 4 products")
    assert "attention:matmul, (network):matmul (no factor is made of parameters alone)" in left
    assert "mix:" in left
    # 8 sequences of 3: embed, in_proj, out_proj, head; scores and their sum; the buffer; the bilinear form.
    mine = 24 * (4 * 8 + 8 * 24 + 8 * 8 + 8 * 4)
    others = 2 * 8 * 2 * 3 * 3 * 4 + 24 * 8 * 8 + 24 * 8 * 8 * 8
    assert float(first.split("with ")[1].split("%")[0]) == pytest.approx(100 * mine / (mine + others), rel=1e-3)


@pytest.mark.parametrize(
    "method", [Octo(), SLB(), Compensation(), combine([SLB(), UnifiedInt8()])], ids=lambda m: m.about.name
)
def test_a_method_that_finds_nothing_is_refused(method):
    workload = Workload("written", Written(), batches(1, 8), loss)
    with pytest.raises(ValueError, match=r"method (octo|slb|lac) finds nothing to quantize") as caught:
        train(workload, method=method, epochs=1, start="pretrained")
    assert "\n" not in str(caught.value)


def test_a_part_of_a_weight_or_a_computed_one_has_no_codes():
    run, _ = started(LSQ(), Written(), torch.randn(3, 8))
    with pytest.raises(ValueError, match=r"its weight stack\[.*codes are written for whole parameters"):
        run.exported()
    run, _ = started(LSQ(), nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))), torch.randn(3, 4))
    with pytest.raises(ValueError, match=r"layer 0: its weight is computed from 0\.parametrizations"):
        run.exported()


def test_codes_of_a_transposed_weight_lie_as_the_parameter_does():
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            return F.linear(x, self.w.T)

    model = Transposed()
    for method in (LSQ(per_channel=True), DistributionAdaptiveInt8()):
        run, flow = started(method, model, torch.randn(5, 4))
        seen = []
        inner = run.site
        flow.site = lambda site, inner=inner, seen=seen: seen.append(inner(site).weight(model.w.T).detach())
        with flow:
            model(torch.randn(5, 4))
        (entry,) = run.exported()
        assert entry.codes.shape == (4, 6)
        if isinstance(method, LSQ):
            assert torch.equal((entry.codes * entry.scale).T, seen[0])


# Weights that are computed.


@pytest.mark.parametrize(
    "wrap", [parametrizations.weight_norm, parametrizations.orthogonal, parametrizations.spectral_norm]
)
def test_the_weight_that_the_product_sees_is_quantized(wrap):
    torch.manual_seed(0)
    model = nn.Sequential(wrap(nn.Conv1d(4, 6, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4))
    workload = Workload("computed", model, batches(3, 4, 8), loss)
    found = train(workload, method=LSQ(weight_bits=2, edge_bits=2), epochs=1, start="pretrained", rate=0.0)
    assert list(found.method_state.layers) == ["0:conv1d", "3:linear"]
    seen = []
    state = found.method_state
    with quantized(found.model, state):
        layer = state.layers["0:conv1d"]
        seen = state.weight(layer, found.model[0].weight)
    assert 2 <= seen.unique().numel() <= 4
    assert "99" in found.coverage[0] or "100% of the multiply" in found.coverage[0]


@pytest.mark.parametrize("options", [{}, {"weight": "INT4", "activation": "float32"}])
def test_a_weight_format_that_would_round_something_else_is_refused(options):
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match=r"layer 0: its weight is computed from 0\.parametrizations.*-W float32"):
        train(Workload("computed", model, batches(1, 4), loss), epochs=1, start="pretrained", **options)
    found = train(Workload("computed", model, batches(1, 4), loss), epochs=1, start="pretrained", weight="float32")
    assert len(found.steps) == 1


# Layers that come later.


class Experts(nn.Module):
    """The sign of a sum decides which expert a mini-batch goes through; the second is not there in the first ones."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv1d(2, 4, 1), nn.Linear(24, 4)
        self.experts = nn.ModuleList([nn.Conv1d(4, 4, 1), parametrizations.weight_norm(nn.Conv1d(4, 4, 1))])

    def forward(self, x):
        return self.last(self.experts[int(x.sum() < 0)](self.first(x)).relu().flatten(1))


def routed(count=8):
    made = batches(count, 2, 6)
    return [((x.abs() if k < count // 2 else -x.abs()), y) for k, (x, y) in enumerate(made)]


LATE = {
    "lsq": LSQ(),
    "lsqplus": LSQPlus(),
    "octo": Octo(rounding="stochastic"),
    "slb": SLB(bits=2, activations=True, activation_delay=0),
    "dai8": DistributionAdaptiveInt8(direction_rate=True),
    "ui8": UnifiedInt8(activation_threshold="ema"),
    "lsq+ui8+lac": combine([LSQ(), UnifiedInt8(), Compensation()]),
}


def _some_slow(names, *quick):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("name", _some_slow(LATE, "octo", "slb", "lsq+ui8+lac"))
def test_layers_that_come_later_are_met_and_resumed(name, tmp_path):
    """An expert that the first passes did not reach is quantized when it comes, its parameters are trained, and a run
    that was ended goes on to the same bits."""
    options = {"method": LATE[name], "epochs": 2, "start": "pretrained", "rate": 0.02, "checkpoint_every": 1}
    # By seed 2 the second expert comes after the first step.
    workload = Workload("experts", Experts(), routed(), loss)
    whole = train(workload, output=tmp_path / "whole", seed=2, **options)
    state = whole.method_state
    layers = state.layers or state._parts["lsq"].layers
    assert {"experts.0:conv1d", "experts.1:conv1d"} <= set(layers)
    late = [name for name in state.trained() if "experts.1" in name]
    assert bool(late) is (name not in ("dai8", "ui8"))

    def ending(at):
        if at.done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(workload, output=tmp_path / "cut", seed=2, progress=ending, **options)
    again = train(workload, output=tmp_path / "cut", seed=2, resume=True, **options)
    assert again.steps.loss.tolist() == whole.steps.loss.tolist()
    for key, value in state.trained().items():
        assert torch.equal(value, again.method_state.trained()[key])
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_a_layer_that_training_drops_is_there_from_the_start():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.a(x)
            return self.c(x if self.training else self.b(x))

    model = Dropped().train()
    run, _ = started(LSQ(), model, torch.randn(3, 4))
    assert list(run.layers) == ["a:linear", "b:linear", "c:linear"]
    assert [layer.last for layer in run.layers.values()] == [False, False, True]
    assert model.training


def test_an_expert_without_rows():
    class Empty(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            far = x[:, 0] > 100
            return torch.cat([self.a(x[~far]), self.b(x[far])])

    for method in (LSQ(), LSQPlus(), UnifiedInt8(), DistributionAdaptiveInt8(), Octo(include_linear=True)):
        found = train(Workload("empty", Empty(), batches(2, 4), loss), method=method, epochs=1)
        assert found.steps.loss.notna().all()


# Activation checkpointing.


class Checkpointed(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.first = nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.Flatten(), nn.Linear(32, 16))
        self.last = nn.Linear(16, 4)

    def forward(self, x):
        if self.kind == "none":
            return self.last(self.first(x))
        return self.last(checkpoint(self.first, x, use_reentrant=self.kind == "reentrant"))


CHECKPOINTED = {
    **LATE,
    "octo-demo": Octo(arithmetic="octo-demo"),
    "lac": Compensation(),
    "slb+dai8": combine([SLB(), DistributionAdaptiveInt8()]),
}


@pytest.mark.parametrize("name", _some_slow(CHECKPOINTED, "lsq", "octo", "slb", "dai8", "ui8"))
def test_checkpointing_changes_no_number(name):
    def twice(model, batch):
        """Two passes for one loss: what is computed again belongs to its own."""
        x = batch[0].clone().requires_grad_()
        return F.cross_entropy(model(x), batch[1]) + F.cross_entropy(model(0.5 * x), batch[1])

    found = [
        train(
            Workload("c", Checkpointed(kind), batches(3, 1, 8), twice),
            method=CHECKPOINTED[name],
            epochs=1,
            start="pretrained",
            rate=0.05,
        )
        for kind in ("none", "non-reentrant", "reentrant")
    ]
    for other in found[1:]:
        assert other.steps.loss.tolist() == found[0].steps.loss.tolist()
        assert all(
            torch.equal(a, b) for a, b in zip(other.model.parameters(), found[0].model.parameters(), strict=True)
        )


# Derivatives in the loss.


def penalized(model, batch):
    x = batch[0].clone().requires_grad_()
    error = F.cross_entropy(model(x), batch[1])
    return error + torch.autograd.grad(error, x, create_graph=True)[0].square().sum()


def detached(model, batch):
    x = batch[0].clone().requires_grad_()
    error = F.cross_entropy(model(x), batch[1])
    return error + torch.autograd.grad(error, x, retain_graph=True)[0].square().sum().detach()


@pytest.mark.parametrize("name", ["lsq", "lsqplus", "dai8", "ui8"])
def test_a_derivative_in_the_loss_is_refused_where_it_has_to_be_differentiated(name):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    with pytest.raises(ValueError, match="the loss holds a derivative of the network"):
        train(Workload("p", model, batches(1, 4), penalized), method=METHODS[name](), epochs=1)
    found = train(Workload("p", model, batches(2, 4), detached), method=METHODS[name](), epochs=1)
    assert found.steps.loss.notna().all()


def test_a_metric_may_take_a_derivative():
    def force(model, batch):
        x = batch[0].clone().requires_grad_()
        return torch.autograd.grad(model(x).sum(), x)[0].norm().item()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    data = batches(1, 4)
    for options in ({"method": LSQ()}, {"activation": "INT8"}):
        found = train(
            Workload("f", model, data, loss, test=data, metric=force), epochs=1, start="pretrained", rate=0.0, **options
        )
        # Straight through the rounding, by weights of 8 bits.
        assert found.metric == pytest.approx(force(model, data[0]), rel=0.05)


def test_formats_meet_layers_that_come_later(tmp_path):
    """Delayed scales of places that come later are made when they come, and resumed."""

    class Plain(Experts):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList([nn.Conv1d(4, 4, 1), nn.Conv1d(4, 4, 1)])

    def ending(at):
        if at.done == 11:
            raise KeyboardInterrupt

    options = {"epochs": 2, "start": "pretrained", "rate": 0.02, "checkpoint_every": 1, "seed": 2}
    workload = Workload("experts", Plain(), routed(), loss)
    whole = train(workload, output=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(workload, output=tmp_path / "cut", progress=ending, **options)
    again = train(workload, output=tmp_path / "cut", resume=True, **options)
    assert again.steps.loss.tolist() == whole.steps.loss.tolist()
    places = whole.layers[whole.layers.kind == "A"].place
    assert places.str.startswith("experts.0").any()
    assert places.str.startswith("experts.1").any()
