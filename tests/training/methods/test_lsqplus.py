"""LSQ+: checks of docs/definitions/methods.md section 7."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training import digits
from tests.training.methods.helper import started
from training.methods import LSQ, LSQPlus, quantized
from training.methods.learned_steps import unsigned_grid
from training.methods.lsq import first_step
from training.methods.lsqplus import min_max, searched, three_sigma_step
from training.quantizers.learned import quantize_by_step


def test_lsqplus_check_1():
    torch.manual_seed(0)
    x = 2 * torch.randn(500, dtype=torch.float64)
    step, offset = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)
    low, high, weight = 0, 15, torch.randn(500, dtype=torch.float64)
    given = [t.clone().requires_grad_() for t in (x, step, offset)]
    found = torch.autograd.grad((quantize_by_step(given[0], given[1], low, high, 1.0, given[2]) * weight).sum(), given)

    own = [t.clone().requires_grad_() for t in (x, step, offset)]
    u = torch.clamp((own[0] - own[2]) / own[1], low, high)
    composed = torch.autograd.grad(((((u.round() - u).detach() + u) * own[1] + own[2]) * weight).sum(), own)
    for a, b in zip(found, composed, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)

    q = (x - offset) / step
    below, above = q < low, q > high
    table = (
        torch.where(below | above, 0, weight),
        (weight * torch.where(below, low, torch.where(above, high, q.round() - q))).sum(),
        weight[below | above].sum(),
    )
    for a, b in zip(found, table, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)

    # Offset 0 and an unsigned grid: LSQ, bit for bit.
    x32 = x.float().requires_grad_()
    plain, with_offset = (quantize_by_step(x32, torch.tensor(0.3), 0, 15, 0.5, at) for at in (None, torch.tensor(0.0)))
    assert torch.equal(plain, with_offset)
    assert torch.equal(*(torch.autograd.grad(y.sum(), x32)[0] for y in (plain, with_offset)))


def test_lsqplus_check_2():
    torch.manual_seed(0)
    x, step, offset = torch.randn(1000), torch.tensor(0.25), torch.tensor(-0.5)
    moved = quantize_by_step(x + 2.0, step, 0, 7, 1.0, offset + 2.0)
    # Elements that the shift's own rounding carries over a tie would move by a step; here none lies so close to one.
    assert torch.allclose(moved, quantize_by_step(x, step, 0, 7, 1.0, offset) + 2.0, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4])
def test_lsqplus_check_3(bits):
    torch.manual_seed(0)
    x = F.silu(torch.randn(50_000))
    low, high = unsigned_grid(bits)

    def error(step, offset):
        return (quantize_by_step(x, step, low, high, 1.0, offset) - x).square().mean().item()

    best = error(*searched(x, low, high))
    assert best < error(*min_max(x.amin(), x.amax(), low, high))
    assert best < error(first_step(x, high), None)
    # Measured: 0.030 and 0.0032.
    assert best < {2: 0.033, 4: 0.0036}[bits]


def test_the_search_never_does_worse_than_the_whole_range():
    for x in (torch.rand(100) + 5, torch.zeros(10), torch.full((10,), -3.0), torch.randn(100)):
        step, offset = searched(x, 0, 3)
        whole = min_max(x.amin(), x.amax(), 0, 3)
        errors = [
            (quantize_by_step(x, *pair[:1], 0, 3, 1.0, pair[1]) - x).square().mean().item()
            for pair in ((step, offset), whole)
        ]
        assert errors[0] <= errors[1]


def test_the_first_step_of_weights():
    torch.manual_seed(0)
    w = torch.randn(4, 10_000) * torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert three_sigma_step(w[0], 8).item() == pytest.approx(3 / 8, rel=0.03)
    per_channel = three_sigma_step(w, 8, (1,))
    assert per_channel.shape == (4, 1)
    assert per_channel.flatten().tolist() == pytest.approx([3 / 8, 6 / 8, 9 / 8, 12 / 8], rel=0.03)


def test_lsqplus_check_4():
    """Integers alone, and the offset as a constant of the output channel: exact without padding, and with it away from
    the border."""
    torch.manual_seed(0)
    x = F.silu(torch.randn(4, 3, 8, 8))
    for padding in (0, 1):
        model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=padding, bias=False))
        run, _ = started(LSQPlus(edge_bits=4), model, x)
        with quantized(model, run):
            unfolded = model(x)
        [entry] = run.exported()
        step, offset = run.parameters["step.0:conv2d"].detach(), run.parameters["offset.0:conv2d"].detach()
        assert offset < -0.1
        integers = ((x - offset) / step).round().clamp(0, 15)
        folded = (
            F.conv2d(integers, entry.codes.float(), padding=padding) * step * entry.scale
            + entry.folded_bias[:, None, None]
        )
        difference = (folded - unfolded).abs()
        inner = difference[:, :, 1:-1, 1:-1] if padding else difference
        assert inner.max() < 1e-5 * unfolded.abs().max()
        if padding:
            border = difference.clone()
            border[:, :, 1:-1, 1:-1] = 0
            assert border.max() > 1e-2


def before_training(method, model):
    """Accuracy with the method's first steps and offsets."""
    model, workload = copy.deepcopy(model).train(), digits.workload(smooth=True)
    run, _ = started(method, model, workload.batches[0][0])
    run.training = False
    with quantized(model, run):
        return workload.metric(model, workload.test[0])


@pytest.mark.slow
def test_lsqplus_check_5(trained_smooth):
    """The better start, before any training: SiLU, 4 and 2 bits. After training the difference to LSQ is within
    noise."""
    found = {}
    for bits in (4, 2):
        options = {"weight_bits": bits, "activation_bits": bits, "include_linear": False}
        found["plus", bits] = before_training(LSQPlus(**options), trained_smooth[0].model)
        found["signed", bits] = before_training(LSQ(**options, activations="signed"), trained_smooth[0].model)
    assert found["plus", 4] > found["signed", 4]
    assert found["plus", 2] > found["signed", 2] + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "least"), [(4, 0.981), (2, 0.971)])
def test_lsqplus_check_6(trained_smooth, bits, least):
    """End to end: ten epochs from the trained network, over two seeds; a point and a half below what the specification
    measured."""
    method = LSQPlus(weight_bits=bits, activation_bits=bits, include_linear=False)
    assert digits.accuracy(method, digits.FINE, trained_smooth, smooth=True) >= least


def test_options_that_mean_nothing_are_refused():
    for options, message in (
        ({"weight_bits": 9}, "lsqplus: weight_bits 9"),
        ({"init": "best"}, "lsqplus: init 'best': allowed are search, min-max"),
        ({"divisor": 0.0}, "lsqplus: divisor 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            LSQPlus(**options)
