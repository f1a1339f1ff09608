"""Sites: products computed from quantized tensors, forward and backward."""

import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint as recompute

from predictor.flow.dataflow import DataFlow
from predictor.flow.sites import Quantizers


class Products(nn.Module):
    """A call of every kind that can be a site, one layer twice, an in-place operation right after one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.line = nn.Conv1d(12, 6, 3, dilation=2)
        self.linear, self.free = nn.Linear(4, 4), nn.Parameter(torch.randn(4, 3))
        self.scores = nn.Linear(3, 3, bias=False)

    def forward(self, x):
        x = F.relu(self.grouped(F.relu(self.conv(x), inplace=True)))
        x = self.up(x)  # (n, 2, 6, 6)
        x = self.line(x.flatten(1, 2))  # (n, 6, 2)
        x = self.linear(x.transpose(1, 2).reshape(-1, 3, 4))
        x = self.linear(torch.tanh(x)) @ self.free
        return torch.bmm(x, self.scores(x).transpose(1, 2)).sum((1, 2))


def network():
    torch.manual_seed(0)
    return Products(), torch.randn(3, 2, 8, 8)


def gradients(model, x, site=None, points=False):
    flow = DataFlow(model)
    flow.site = site
    if points:
        flow.activation = flow.error = lambda t, _: t.clone()
    x = x.clone().requires_grad_()
    with flow:
        loss = model(x).square().mean()
        return loss, flow.gradients(loss, [x, *model.parameters()]), flow


IDENTITIES = Quantizers(
    input=lambda x: x,
    weight=lambda w: w,
    output=lambda y: y,
    error=lambda e: (e, e),
    gradient=lambda g: g,
    bias_gradient=lambda g: g,
)


@pytest.mark.parametrize("quantizers", [Quantizers(), IDENTITIES], ids=["none", "identities"])
@pytest.mark.parametrize("points", [False, True])
def test_identities_are_the_plain_network_bit_for_bit(quantizers, points):
    model, x = network()
    plain_x = x.clone().requires_grad_()
    loss = model(plain_x).square().mean()
    expected = torch.autograd.grad(loss, [plain_x, *model.parameters()])
    seen = []
    found_loss, found, flow = gradients(
        model, x, lambda site: seen.append((site.name, site.parameter)) or quantizers, points
    )
    assert torch.equal(found_loss, loss)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert seen == [
        ("conv:conv2d", "conv.weight"),
        ("grouped:conv2d", "grouped.weight"),
        ("up:conv_transpose2d", "up.weight"),
        ("line:conv1d", "line.weight"),
        ("linear:linear", "linear.weight"),
        ("linear:linear#1", "linear.weight"),
        (":matmul", "free"),
        ("scores:linear", "scores.weight"),
        (":bmm", None),
    ]
    # Points stand where they stood.
    bare = DataFlow(model)
    with bare:
        model(x.requires_grad_())
    assert [point.name for point in flow.points] == [point.name for point in bare.points]


def test_every_tensor_goes_where_it_belongs():
    """Against the products written out, with numbers that tell the copies apart."""
    torch.manual_seed(1)
    model, x = nn.Linear(5, 4), torch.randn(7, 5)
    e = torch.randn(7, 4)
    quantizers = Quantizers(
        input=lambda x: 2 * x,
        weight=lambda w: 3 * w,
        output=lambda y: 5 * y,
        operands=lambda x, w: (x + 1, w - 1),
        error=lambda e: (7 * e, 11 * e),
        gradient=lambda g: g + 100,
        bias_gradient=lambda g: -g,
    )
    flow = DataFlow(model)
    flow.site = lambda _: quantizers
    given = x.clone().requires_grad_()
    with flow:
        y = model(given)
        for_x, for_weight, for_bias = flow.gradients((y * e).sum(), [given, model.weight, model.bias])
    assert torch.allclose(y, 5 * (2 * x @ (3 * model.weight).T + model.bias))
    inner = 5 * e
    assert torch.allclose(for_weight, 3 * ((7 * inner).T @ (x + 1) + 100), atol=1e-3)
    assert torch.allclose(for_x, 2 * (11 * inner) @ (model.weight - 1), atol=1e-3)
    assert torch.allclose(for_bias, -inner.sum(0))


def test_a_convolution_takes_two_copies_of_the_error():
    model, x = nn.Conv2d(3, 4, 3, padding=1, stride=2), torch.randn(2, 3, 8, 8)
    e = torch.randn(2, 4, 4, 4)
    flow = DataFlow(model)
    flow.site = lambda _: Quantizers(error=lambda e: (e.round(), e.abs()))
    given = x.clone().requires_grad_()
    with flow:
        found = flow.gradients((model(given) * e).sum(), [given, model.weight, model.bias])
    for k, copy_of_error in enumerate((e.abs(), e.round(), e)):
        own = x.clone().requires_grad_()
        expected = torch.autograd.grad(model(own), [own, model.weight, model.bias], copy_of_error)
        assert torch.equal(found[k], expected[k])


def test_without_gradients_the_forward_pass_is_the_same():
    model, x = network()
    quantizers = Quantizers(input=lambda x: (8 * x).round() / 8, weight=lambda w: (8 * w).round() / 8)
    flow = DataFlow(model)
    flow.site = lambda _: quantizers
    with flow:
        expected = model(x).detach()
        with torch.no_grad():
            assert torch.equal(model(x), expected)
    assert not torch.equal(model(x), expected)


def test_exact_layers_are_no_sites():
    model, x = network()
    flow, seen = DataFlow(model, exact=["conv", "linear"]), []
    flow.site = lambda site: seen.append(site.layer)
    with flow:
        model(x)
    assert seen == ["grouped", "up", "line", "", "scores", ""]


def test_several_backward_passes_and_recomputation():
    class Net(nn.Module):
        def __init__(self, again):
            super().__init__()
            self.first, self.second, self.again = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 1, 3), again

        def forward(self, x):
            inner = recompute(self.first, x, use_reentrant=False) if self.again else self.first(x)
            return self.second(torch.tanh(inner))

    torch.manual_seed(0)
    plain, x = Net(False), torch.randn(2, 2, 8, 8)
    again = copy.deepcopy(plain)
    again.again = True
    found = []
    for model in (plain, again):
        flow = DataFlow(model)
        flow.site = lambda _: Quantizers(input=torch.sin, error=lambda e: (e.round(decimals=2), e))
        with flow:
            loss = model(x).square().sum()
            first = flow.gradients(loss, list(model.parameters()), keep=True)
            second = flow.gradients(loss, list(model.parameters()))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        found.append(first)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


class Sequence(nn.Module):
    """Two recurrent layers and self-attention."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(4, 8, 2, batch_first=True)
        self.cell = nn.GRUCell(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        h, _ = self.recurrent(x)
        h = torch.stack([self.cell(part) for part in h.unbind(1)], 1)
        return self.attention(h, h, h, need_weights=False)[0]


SITES_OF_A_SEQUENCE = [
    # Input to hidden, and all steps of hidden to hidden as one.
    ("recurrent:linear", "recurrent.weight_ih_l0"),
    ("recurrent:linear#1", "recurrent.weight_hh_l0"),
    ("recurrent:linear#2", "recurrent.weight_ih_l1"),
    ("recurrent:linear#3", "recurrent.weight_hh_l1"),
    ("cell:linear", "cell.weight_ih"),
    ("cell:linear#1", "cell.weight_hh"),
    ("attention:linear", "attention.in_proj_weight"),
    ("attention:matmul", None),
    ("attention:matmul#1", None),
    ("attention:linear#1", "attention.out_proj.weight"),
]


def test_products_inside_attention_and_recurrent_layers():
    torch.manual_seed(2)
    model, x = Sequence(), torch.randn(3, 5, 4)
    inputs = [x.clone().requires_grad_(), *model.parameters()]
    bare = DataFlow(model)
    with bare:
        expected = bare.gradients(model(inputs[0]).square().mean(), inputs)
    seen = {}
    flow = DataFlow(model)
    flow.site = lambda site: seen.setdefault(
        (site.name, site.parameter), Quantizers(error=lambda e: (e.clone(), e.clone()))
    )
    with flow:
        found = flow.gradients(model(inputs[0]).square().mean(), inputs)
        assert [point.name for point in flow.points] == [point.name for point in bare.points]
        with torch.no_grad():
            quiet = model(x)
    # The cell is called five times, and its input product is a site each time.
    names = [
        name for name in seen if not name[0].startswith("cell:linear") or name[0] in ("cell:linear", "cell:linear#1")
    ]
    assert names == SITES_OF_A_SEQUENCE
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(found, expected, strict=True))
    assert torch.allclose(quiet, model(x), atol=1e-6)
    # Errors and inputs that are quantized change what depends on them.
    flow.site = lambda site: (
        Quantizers(error=lambda e: (0 * e, e)) if site.parameter == "recurrent.weight_hh_l0" else None
    )
    with flow:
        found = flow.gradients(model(inputs[0]).square().mean(), inputs)
    changed = [
        name
        for (name, _), a, b in zip([("x", 0), *model.named_parameters()], found, expected, strict=True)
        if not torch.allclose(a, b)
    ]
    assert changed == ["recurrent.weight_hh_l0"]
    flow.site = lambda site: (
        Quantizers(input=lambda h: 2 * h) if site.parameter == "attention.out_proj.weight" else None
    )
    with flow, torch.no_grad():
        assert torch.allclose(
            model(x) - model.attention.out_proj.bias, 2 * (quiet - model.attention.out_proj.bias), atol=1e-6
        )


def test_what_one_backward_pass_needs_is_let_go():
    """Of a node that computes backward products from other operands, and of one that uses those of the forward pass."""
    model, x = nn.Linear(6, 4), torch.randn(3, 6)
    for swaps in (True, False):
        for once in (False, True):
            made = []

            def kept(x, w, made=made):
                made += [weakref.ref(t := x.clone()), weakref.ref(u := w.clone())]
                return t, u

            quantizers = Quantizers(weight=lambda w: w * 2, operands=kept if swaps else None, once=once)
            with DataFlow(model) as flow:
                flow.site, flow.pointed = lambda site, q=quantizers: q, False
                y = model(x)
                node, loss = y.grad_fn, y.sum()
                # Numbers that no backward pass needs are not held, only shapes.
                held = [t.untyped_storage().nbytes() for t in (*node.own, node.result)]
                assert (max(held) == 4) if swaps else (held[:2] == [72, 96] and held[-1] == 4)
                [found] = flow.gradients(loss, [model.weight], keep=not once)
            assert torch.equal(found, 2 * (torch.ones(3, 4).T @ x))
            assert (node.own is None) == once
            assert [t() is None for t in made] == [once] * len(made)
            assert len(made) == 2 * swaps


class Experts(torch.nn.Module):
    """Weights of all experts in one parameter, of which a number that was routed chooses one."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.linspace(-1, 1, 3 * 4 * 4).reshape(3, 4, 4))

    def forward(self, x):
        chosen = x.sum(1).abs().round().long() % 3
        out = torch.zeros_like(x)
        for expert in chosen.unique():
            rows = torch.where(chosen == expert)[0]
            out = out.index_add(0, rows, torch.nn.functional.linear(x[rows], self.weights[expert]))
        return out


def test_the_weight_of_an_expert_is_part_of_the_parameter():
    model, seen = Experts(), []
    with DataFlow(model) as flow:
        flow.site = seen.append
        model(torch.diag(torch.tensor([0.0, 1.0, 2.0, 4.0])))
    assert len(seen) == 3
    assert {site.origin.parameters for site in seen} == {("weights",)}
    assert all(not site.origin.computed and site.origin.place.size == (4, 4) for site in seen)
