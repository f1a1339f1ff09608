"""The flow's full-precision gradient is torch's own, or nothing is measured."""

import itertools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from predictor import measure
from predictor.gradient.gradients import Gradients
from predictor.measuring import self_check
from predictor.measuring.self_check import Checked, check
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from workloads import Workload


def mlp(*sizes):
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*(part for layer in layers[:-1] for part in (layer, nn.Tanh())), layers[-1])


def batch(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def full(workload, given):
    with Gradients(workload, given, watched=True) as gradients:
        checked = check(gradients)
        return dict(zip(gradients.names, gradients.full, strict=True)), checked


def torch_alone(workload, given):
    names = dict(workload.model.named_parameters())
    loss = workload.loss(workload.model, given)
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    return dict(zip(names, found, strict=True))


def pinn(model, x):
    x = x.detach().clone().requires_grad_()
    u = model(x)
    return (torch.autograd.grad(u.sum(), x, create_graph=True)[0][:, :1] - u).square().mean()


def forces(model, x):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(x).sum(), x, create_graph=True)[0].square().mean()


def penalty(model, x):
    x = x.detach().clone().requires_grad_()
    out = model(x)
    return (
        out.square().mean() + (torch.autograd.grad(out.sum(), x, create_graph=True)[0].norm(dim=1) - 1).square().mean()
    )


def curvature(model, x):
    x = x.detach().clone().requires_grad_()
    first = torch.autograd.grad(model(x).sum(), x, create_graph=True)[0]
    return torch.autograd.grad(first.sum(), x, create_graph=True)[0].square().mean()


@pytest.mark.parametrize("loss", [pinn, forces, penalty, curvature])
def test_derivatives_inside_the_loss_are_differentiated(loss):
    workload, x = Workload("derivative", mlp(2, 16, 1), [batch(32, 2)], loss), batch(32, 2)
    found, _ = full(workload, x)
    own = torch_alone(workload, x)
    for name, gradient in found.items():
        assert torch.equal(gradient, own[name]), name
    # Finer formats come nearer, so what is rounded is what is differentiated.
    table = measure(workload, ["FP169", "FP134"], ["E", "AE"]).set_index(["format", "effect"]).angle
    for effect in ("E", "AE"):
        assert 0 < table["FP169", effect] < table["FP134", effect] < 20


class Checkpointed(nn.Module):
    """A network whose first part is computed again in the backward pass."""

    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.reentrant = mlp(8, 32, 16), nn.Linear(16, 4), reentrant

    def forward(self, x):
        if self.reentrant is None:
            return self.last(self.first(x))
        return self.last(checkpoint(self.first, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_changes_no_angle(reentrant):
    x, y = batch(16, 8), torch.arange(16) % 4

    def loss(model, given):
        return F.cross_entropy(model(given[0].requires_grad_()), given[1])

    plain, other = (
        measure(Workload("net", Checkpointed(how), [(x, y)], loss), ["FP134", "INT6"]) for how in (None, reentrant)
    )
    assert plain.angle.tolist() == other.angle.tolist()


def test_reentrant_checkpointing_without_an_input_that_needs_a_gradient_trains_nothing_as_in_torch():
    x, y = batch(16, 8), torch.arange(16) % 4
    workload = Workload("net", Checkpointed(True), [(x, y)], lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    with pytest.warns(UserWarning, match="requires_grad=True"):
        found, _ = full(workload, (x, y))
    assert list(found) == ["last.weight"]


class Attending(nn.Module):
    """Attention of its own with rows that may attend to nothing."""

    def __init__(self, mask):
        super().__init__()
        torch.manual_seed(0)
        self.q, self.mask = nn.Linear(4, 4), mask

    def forward(self, x):
        q = self.q(x)
        return F.scaled_dot_product_attention(q, q, q, attn_mask=self.mask)


@pytest.mark.parametrize("kind", ["bool", "float", "causal and padded"])
def test_rows_masked_out_entirely_are_what_torch_makes_of_them(kind):
    allowed = torch.tensor([[True, False, False], [False, False, False], [True, True, True]])
    mask = allowed if kind == "bool" else torch.zeros(3, 3).masked_fill(~allowed, -torch.inf)
    if kind == "causal and padded":
        mask = allowed.tril() & torch.tensor([False, True, True])
    workload = Workload("masked", Attending(mask), [batch(2, 1, 3, 4)], lambda m, b: m(b).square().sum())
    found, _ = full(workload, batch(2, 1, 3, 4))
    own = torch_alone(workload, batch(2, 1, 3, 4))
    assert torch.allclose(found["q.weight"], own["q.weight"], rtol=1e-5, atol=1e-7)
    assert found["q.weight"].isfinite().all()


class Own(nn.Module):
    """A network with a forward pass that is given."""

    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.given = nn.Linear(8, 8), nn.Linear(8, 3), forward
        self.register_buffer("count", torch.zeros(()))
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        return self.given(self, x)


def square(model, x):
    return model(x).square().mean()


def test_draws_from_numpy_and_random_are_the_same_in_every_pass():
    def noisy(net, x):
        x = x + torch.from_numpy(np.random.randn(*x.shape)).float() + random.random()  # noqa: NPY002
        return net.b(F.gelu(net.a(x)))

    workload = Workload("noisy", Own(noisy), [batch(4, 8)], square)
    before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert (measure(workload, ["FP169"], ["E", "A", "AE"]).angle < 0.5).all()
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # noqa: NPY002


def test_a_network_that_does_not_repeat_itself_is_refused():
    def own_generator(net, x):
        return net.b(net.a(x + torch.from_numpy(net.rng.standard_normal(x.shape)).float()))

    with pytest.raises(ValueError, match="workload other does not repeat itself: two passes"):
        measure(Workload("other", Own(own_generator), [batch(4, 8)], square), ["FP134"])


@pytest.mark.parametrize("how", ["in place", "assigned"])
def test_buffers_are_put_back(how):
    def counting(net, x):
        if how == "in place":
            net.count += 1
        else:
            net.count = net.count + 1
        return net.b(net.a(x)) * net.count

    net = Own(counting)
    held = net.count
    found = measure(Workload("counting", net, [batch(4, 8)], square), ["FP169"], ["E", "A", "AE"])
    assert net.count is held
    assert net.count.item() == 0
    assert (found.angle < 0.5).all()


def test_what_sees_nothing_of_the_batch_is_refused():
    def ignoring(net, x):
        return net.b(net.a(torch.ones(4, 8)))

    with pytest.raises(ValueError, match="does not depend on the mini-batch that it was given"):
        measure(Workload("ignoring", Own(ignoring), [batch(4, 8)], square), ["FP134"])
    with pytest.raises(ValueError, match=r"has to call model\(\.\.\.\) itself"):
        measure(Workload("method", Own(lambda net, x: net.b(x)), [batch(4, 8)], lambda m, b: m.b(b).mean()), ["FP134"])

    class Opaque:
        def __init__(self, x):
            self.x = x

    opaque = Workload("opaque", Own(lambda net, x: net.b(x.x)), [Opaque(batch(4, 8))], square)
    with pytest.raises(ValueError, match="was called without a tensor that can be found"):
        measure(opaque, ["FP134"])


def test_a_wrong_reference_stops_and_says_where(monkeypatch):
    """Were the flow's own attention wrong, it would be found out."""
    from predictor.flow import decompositions

    monkeypatch.setitem(
        decompositions.TABLE,
        "scaled_dot_product_attention",
        lambda flow, q, k, v, attn_mask=None, **_: flow.point(q + k + v, "add"),
    )
    workload = Workload("wrong", Attending(None), [batch(2, 1, 3, 4)], lambda m, b: m(b).square().sum())
    with pytest.raises(
        ValueError, match=r"workload wrong: the data flow's full-precision gradient differs .* q\.weight"
    ):
        measure(workload, ["FP134"])


def test_the_check_is_made_once_and_kept(tmp_path, monkeypatch):
    workload = Workload("plain", mlp(8, 16, 3), [batch(4, 8), batch(4, 8, seed=2)], square)
    passes = []
    monkeypatch.setattr(
        self_check, "torchs_own", lambda *given, own=self_check.torchs_own: passes.append(1) or own(*given)
    )
    with Store.open(tmp_path / "store.sqlite") as store:
        first = measure(workload, ["FP134"], ["E"], 2, store=store)
        assert len(passes) == 1
        again = measure(workload, ["FP134", "INT8"], ["E"], 2, store=store)
        assert again.angle[0] == first.angle[0]
        other = Measuring(workload, store=store)
        with other.opened(workload.batches[0]):
            pass
        assert len(passes) == 1  # the store knows of the check
        assert other.checked.coverage.share == 1


def test_what_comes_after_the_check_is_not_watched():
    workload = Workload("mlp", mlp(2, 4, 1), [batch(8, 2)], square)
    with Gradients(workload, batch(8, 2), watched=True) as gradients:
        watch = gradients.flow.watch
        found = check(gradients)
        gradients.backward(gradients.forward(None), None, keep=False)
        assert watch.result() == found.coverage
        assert found.coverage.multiply_accumulates == 8 * (2 * 4 + 4 * 1)  # of one pass


def test_what_was_found_survives_the_store():
    _, found = full(Workload("plain", mlp(8, 16, 3), [batch(4, 8)], square), batch(4, 8))
    assert Checked.from_bytes(found.to_bytes()) == found
    assert found.sentence == "points cover 100% of the multiply-accumulates, the angle 90.26% of the parameters"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_of_16_bits_are_computed_in_float32(dtype):
    net = mlp(8, 16, 3).to(dtype)
    wide = mlp(8, 16, 3)
    wide.load_state_dict({name: value.float() for name, value in net.state_dict().items()})
    x = batch(4, 8).to(dtype)
    found = measure(Workload("half", net, [x], square), ["FP134", "INT6"], ["E", "A", "AE", "W"])
    expected = measure(Workload("wide", wide, [x.float()], square), ["FP134", "INT6"], ["E", "A", "AE", "W"])
    assert found.angle.tolist() == expected.angle.tolist()
    assert all(p.dtype is dtype for p in net.parameters())  # the caller's own stays


@pytest.mark.parametrize("how", ["autocast outside", "autocast inside", "casts"])
def test_regions_of_16_bits_are_computed_in_float32(how):
    def inside(net, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast inside"):
            h = net.a(x)
            h = h.to(torch.bfloat16).relu().float() if how == "casts" else h.relu()
            return net.b(h)

    def loss(model, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast outside"):
            return model(x).square().mean()

    def plain(net, x):
        return net.b(net.a(x).relu())

    found = measure(Workload("regions", Own(inside), [batch(4, 8)], loss), ["FP134"])
    expected = measure(Workload("plain", Own(plain), [batch(4, 8)], square), ["FP134"])
    assert found.angle.tolist() == expected.angle.tolist()
