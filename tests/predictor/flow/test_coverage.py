"""Whatever depends on the input and makes new numbers has a point or stands under "no point" with its reason."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from predictor import measure
from predictor.flow.arrivals import LEAVES
from predictor.flow.dataflow import DataFlow
from predictor.gradient.gradients import Gradients
from predictor.listing import list_points
from predictor.measuring.self_check import check
from workloads import Workload

TRANSFORM = "inside a function transform such as vmap"
NO_GRADIENT = "no gradient is recorded here (no_grad, or a function of its own)"
COMPLEX = "complex numbers"


class Square(torch.autograd.Function):
    """A function of one's own."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, e):
        return 2 * ctx.saved_tensors[0] * e


def scripted(x):
    return torch.sin(x * 3) + x


class Net(nn.Module):
    """A product, something odd, and another product."""

    def __init__(self, odd):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.odd = nn.Linear(8, 8), nn.Linear(8, 3), odd

    def forward(self, x):
        return self.b(self.odd(self, self.a(x)))


def without_gradient(net, x):
    with torch.no_grad():
        scale = x.square().mean()
    return x * scale


def workload(odd):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    return Workload("odd", Net(odd), [x], lambda m, b: m(b).square().mean())


@pytest.mark.parametrize(
    ("odd", "operation", "reason"),
    [
        (lambda net, x: torch.func.vmap(torch.tanh)(x), "tanh", TRANSFORM),
        (lambda net, x: torch.func.vmap(lambda row: F.linear(row, net.a.weight))(x), "mm", TRANSFORM),
        (without_gradient, "pow", NO_GRADIENT),
        (lambda net, x: Square.apply(x), "mul", NO_GRADIENT),
        (lambda net, x: torch.fft.irfft(torch.fft.rfft(x) * (1 + 2j), n=8), "fft_r2c", COMPLEX),
        (lambda net, x: torch.view_as_real(torch.complex(x, x).exp()).sum(-1), "exp", COMPLEX),
        (lambda net, x: x * x.detach().norm(), "linalg_vector_norm", "needs no gradient"),
    ],
)
def test_what_a_mode_cannot_see_is_listed(odd, operation, reason):
    _, skipped, sentence = list_points(workload(odd))
    assert [operation, reason] in [[row[1], row[3]] for row in skipped], skipped
    assert "have no point" in sentence


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_function_is_listed():
    _, skipped, _ = list_points(workload(lambda net, x, own=torch.jit.script(scripted): own(x)))
    reasons = {row[1]: row[3] for row in skipped}
    assert {"mul", "sin", "add"} <= reasons.keys()
    assert reasons["sin"] == "outside torch's Python functions, as in scripted code"


@pytest.mark.parametrize(
    "odd",
    [
        lambda net, x: torch.einsum("bi,oi->bo", x, net.a.weight),
        lambda net, x: torch.addmm(net.a.bias, x, net.a.weight.t()),
        lambda net, x: (x[:, :4] @ net.a.weight[:4]) / 3,
        lambda net, x: F.layer_norm(x, (8,)).add_(1).mul_(0.3),
        lambda net, x: F.softmax(x, -1).cumsum(-1),
        lambda net, x: nn.functional.normalize(x) + x.std(-1, keepdim=True),
    ],
)
def test_everything_in_plain_torch_is_accounted_for(odd):
    with Gradients(workload(odd), workload(odd).batches[0], watched=True) as gradients:
        assert gradients.flow.watch.result().unseen == ()
        assert gradients.flow.watch.result().share == 1


def test_the_share_of_multiply_accumulates_is_that_of_products_with_points():
    odd = workload(lambda net, x: torch.func.vmap(lambda row: F.linear(row, net.a.weight))(x))
    with Gradients(odd, odd.batches[0], watched=True) as gradients:
        found = gradients.flow.watch.result()
    assert (found.multiply_accumulates, found.covered) == (4 * 8 * 8 * 2 + 4 * 8 * 3, 4 * 8 * 8 + 4 * 8 * 3)
    with Gradients(odd, odd.batches[0], exact=["b"], watched=True) as gradients:
        assert gradients.flow.watch.result().covered == 4 * 8 * 8


def test_frozen_layers_round_their_activations():
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 3)).eval()
    learned = DataFlow(net)
    with learned:
        net(torch.ones(4, 8))
    net[:2].requires_grad_(False)
    frozen = DataFlow(net)
    seen = []
    frozen.activation = lambda x, point: seen.append(point.name) or x.clone()
    with frozen:
        net(torch.ones(4, 8))
    assert [point.name for point in frozen.points] == [point.name for point in learned.points]
    assert seen == [":input", "0:linear", "1:batch_norm", "2:gelu", "3:linear"]


def test_what_a_frozen_network_cuts_off_stays_off():
    net = Net(lambda net, x: x * x.detach().norm())
    net.a.requires_grad_(False)
    flow = DataFlow(net)
    with flow:
        net(torch.ones(4, 8))
    assert "norm" not in {point.operation for point in flow.points}


def test_what_is_written_through_a_view_depends_on_the_input():
    def written(net, x):
        with torch.no_grad():
            scale = torch.zeros(8)
            scale[:].copy_(x[0])
            scale = scale.exp()
        return x * scale

    _, skipped, _ = list_points(workload(written))
    assert [":exp", NO_GRADIENT] in [[f"{'' if row[0] == '(network)' else row[0]}:{row[1]}", row[3]] for row in skipped]


def complex_net(x):
    torch.manual_seed(0)
    spectrum = nn.Parameter(torch.randn(3, 5, dtype=torch.complex64))
    net = Net(lambda net, y: torch.fft.irfft(torch.fft.rfft(y)[:, None] * spectrum, n=8).sum(1))
    net.spectrum = spectrum
    return Workload("complex", net, [x], lambda m, b: m(b).square().mean())


def test_complex_weights_are_measured_as_pairs_of_real_numbers():
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    made = complex_net(x)
    made.loss(made.model, x).backward()
    expected = {name: p.grad for name, p in made.model.named_parameters()}
    with Gradients(made, x, watched=True) as gradients:
        checked = check(gradients)
        found = dict(zip(gradients.names, gradients.full, strict=True))
        reasons = {e.operation: e.reason for e in checked.coverage.unseen}
    assert found.keys() == {"a.weight", "b.weight", "spectrum"}
    assert torch.allclose(found["spectrum"], torch.view_as_real(expected["spectrum"]), rtol=1e-5)
    assert {operation for operation, reason in reasons.items() if reason == COMPLEX} == {"fft_r2c", "mul"}
    table = measure(complex_net(x), ["FP134", "INT8"], ["E", "A", "AE"])
    assert table.angle.between(1e-3, 60).all()
    with pytest.raises((ValueError, TypeError), match="complex"):
        measure(complex_net(x), ["FP134"], ["W"])


def test_sparse_gradients_are_measured():
    def made(sparse):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Linear(12, 3))
        words = torch.randint(0, 9, (5, 3), generator=torch.Generator().manual_seed(0))
        return Workload("words", net, [(words, torch.ones(5, 3))], lambda m, b: (m(b[0]) - b[1]).square().sum())

    assert measure(made(True), ["FP134"]).angle.tolist() == measure(made(False), ["FP134"]).angle.tolist()


@pytest.mark.parametrize(
    ("odd", "operation"),
    [
        (lambda net, x: x + torch.from_numpy(x.detach().numpy() * 2), "numpy"),
        (lambda net, x: x * x.mean().item(), "item"),
        (lambda net, x: x * float(x.mean()), "item"),
        (lambda net, x: x + torch.tensor(x.tolist()), "tolist"),
    ],
)
@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_what_leaves_torch_is_listed(odd, operation):
    _, skipped, _ = list_points(workload(odd))
    assert [operation, LEAVES] in [[row[1], row[3]] for row in skipped], skipped


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_listed():
    def nested(net, x):
        return torch.nested.nested_tensor([x[:2], x[2:]]).to_padded_tensor(0.0).flatten(0, 1)

    _, skipped, _ = list_points(workload(nested))
    assert "to_padded_tensor" in [row[1] for row in skipped]


def test_a_network_that_copies_a_part_of_itself():
    plain, copies = (workload(odd) for odd in (lambda net, x: net.a(x), lambda net, x: copy.deepcopy(net.a)(x)))
    assert measure(copies, ["FP134"], ["A"]).angle.tolist()[0] > 0
    with Gradients(plain, plain.batches[0]) as one, Gradients(copies, copies.batches[0]) as other:
        assert one.loss.item() == other.loss.item()
        assert [point.operation for point in one.flow.points] == [point.operation for point in other.flow.points]


class Box:
    """Holds a tensor where nobody looks."""

    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize("kind", [Box, lambda x: {x}, lambda x: iter([x])])
def test_an_output_without_a_tensor_that_is_found_is_named(kind):
    class Boxes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(8, 3)

        def forward(self, x):
            return kind(self.a(x))

    made = Workload(
        "boxes", Boxes(), [torch.ones(2, 8)], lambda m, b: m(b).x.sum() if kind is Box else next(iter(m(b))).sum()
    )
    with pytest.raises(ValueError, match=r"the model of workload boxes gives a \w+, in which no tensor is found"):
        measure(made, ["FP134"])
