"""Octo: checks of docs/definitions/methods.md section 2."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training import digits
from tests.training.methods.helper import central_difference, started
from training.methods import Compensation, Octo, quantized
from training.methods.octo import demo_backward
from training.quantizers.clipped import Clipped, absmax, range_clip
from training.quantizers.integers import asymmetric_range, zero_point


@pytest.mark.parametrize("shape", ["chw", "sample", "channel"])
def test_octo_check_1(shape):
    torch.manual_seed(0)
    model, x = nn.Conv2d(1, 3, 3), torch.randn(4, 1, 5, 5)
    run, _ = started(Compensation(shape=shape), model, x)
    [layer] = run.layers.values()
    assert run.parameters["o.:conv2d"].shape == {"chw": (3, 3, 3), "sample": (4, 3, 3, 3), "channel": (3, 1, 1)}[shape]
    y, d = torch.randn(4, 3, 3, 3, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    values = {name: torch.randn(p.shape, dtype=torch.float64) for name, p in run.parameters.items()}

    def loss(changed, name):
        run.parameters = {**{k: nn.Parameter(v) for k, v in values.items()}, name: changed}
        return (run.compensated(layer, y) * d).sum() + run.penalty()

    for name, value in values.items():
        given = nn.Parameter(value.clone())
        (found,) = torch.autograd.grad(loss(given, name), given)
        expected = central_difference(lambda v, name=name: loss(v, name), value)
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    # The penalty by hand; alpha is not in it.
    run.parameters = {key: nn.Parameter(value) for key, value in values.items()}
    assert run.penalty().item() == pytest.approx(
        0.05 * sum(values[f"{key}.:conv2d"].square().sum().item() for key in ("mu", "o"))
    )


def test_octo_check_2():
    t = torch.tensor([-4.0, -1.0, 0.0, 3.0, 10.0])
    assert torch.equal(range_clip(t, 0.95), torch.tensor([-3.8, -1.0, 0.0, 3.0, 9.5]))
    assert torch.equal(range_clip(torch.tensor([2.0, 5.0, 10.0]), 0.95), torch.tensor([2.0, 5.0, 9.5]))
    assert torch.equal(range_clip(-torch.tensor([2.0, 5.0, 10.0]), 0.95), -torch.tensor([2.0, 5.0, 9.5]))
    given = t.clone().requires_grad_()
    (found,) = torch.autograd.grad(range_clip(given, 0.95).sum(), given)
    assert found.tolist() == [0, 1, 1, 1, 0]


def test_octo_check_3():
    """A constant of the channel has no gradient through batch normalization: it is the sum over positions of the
    gradients of "chw"."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), torch.randn(16, 2, 8, 8)
    run, flow = started(Compensation(tied=True), model, x)
    o = run.parameters["o.0:conv2d"]
    weight = torch.randn(16, 4, 6, 6)
    with flow:
        (by_position,) = flow.gradients((model(x) * weight).sum(), [o])
    by_channel = by_position.sum((1, 2))
    assert by_channel.abs().max() < 1e-5 * by_position.abs().max()
    with pytest.raises(
        ValueError, match=r"shape 'channel' in layer 0: the batch normalization after it removes any constant"
    ):
        started(Compensation(shape="channel"), model, x)
    with pytest.raises(ValueError, match="shape 'channel' in layer 0"):
        started(Octo(shape="channel"), model, x)
    assert started(Compensation(shape="channel"), nn.Conv2d(2, 4, 3), x)


def test_octo_check_4():
    """The product of quantities with zero points from sums of their codes, in whole numbers."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        count = 300
        q_x, q_w = (torch.randint(low, high, (count,), generator=generator) for low, high in ((0, 256), (-127, 128)))
        z_x, z_w = torch.randint(0, 256, (), generator=generator), torch.randint(-127, 128, (), generator=generator)
        direct = ((q_x - z_x) * (q_w - z_w)).sum()
        assert direct.dtype is torch.int64
        assert direct == (q_x * q_w).sum() - z_w * q_x.sum() - z_x * q_w.sum() + count * z_x * z_w
    # And that is what a layer computes: integers, one product of steps.
    x, w = torch.randn(5, 40, generator=generator), torch.randn(3, 40, generator=generator)
    step, zero = zero_point(x.amin(), x.amax(), 8)
    q_x = (asymmetric_range(x, 8) / step).round().long() + zero.long()
    assert q_x.min() == 0
    assert q_x.max() == 255
    codes, scale = Clipped("INT8").encode(w, absmax(w))
    q_w = codes.view(torch.int8).long()
    whole = q_x @ q_w.T - zero.long() * q_w.sum(1)
    run, flow = started(Octo(include_linear=True, compensation=False), model := nn.Linear(40, 3, bias=False), x)
    model.weight.data = w
    with flow, torch.no_grad():
        assert torch.allclose(model(x), whole * (step.double() * scale.double()).float(), rtol=1e-5, atol=1e-5)
    assert run.layers


def test_octo_check_5():
    """One-sided tensors stay within eight bits; the demonstration's arithmetic leaves them."""
    x = torch.relu(torch.randn(1000)) + 0.5
    clipped = range_clip(x, 0.95)
    codes, step = Clipped("INT8").encode(clipped, absmax(clipped))
    assert codes.view(torch.int8).abs().max() == 127
    largest = (Clipped("INT8")(clipped, absmax(clipped)) / step).round().abs().max()
    assert largest == 127
    demo_step = (clipped.amax() - clipped.amin()) / 254
    assert (demo_backward(clipped) / demo_step).round().abs().max() > 127


def test_octo_check_6():
    """Compensation alone, against the network's outputs in full precision, with weights of 4 bits that stay as they
    are."""
    torch.manual_seed(0)
    model, x = digits.network(normalized=False), torch.rand(8, 1, 8, 8) - 0.5
    with torch.no_grad():
        target = model(x)
    run, flow = started(Octo(format="INT4", regularization=0.0), model, x)
    run.training = True
    parameters = list(run.parameters.values())
    optimizer = torch.optim.Adam(parameters, 1e-3)
    errors = []
    with flow:
        for _ in range(100):
            loss = F.mse_loss(model(x), target)
            for parameter, gradient in zip(parameters, flow.gradients(loss, parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()
            errors.append(loss.item())
    assert errors[-1] < 0.5 * errors[0]


def test_backward_operands_are_the_clipped_ones():
    torch.manual_seed(0)
    model, x, e = nn.Conv2d(2, 3, 3), torch.randn(4, 2, 6, 6), torch.randn(4, 3, 4, 4)
    int8 = Clipped("INT8")

    def clipped(t):
        t = range_clip(t, 0.95)
        return int8(t, absmax(t))

    for reuse in (False, True):
        _, flow = started(Octo(compensation=False, reuse_forward_codes=reuse), model, x)
        given = x.clone().requires_grad_()
        with flow:
            found = flow.gradients((model(given) * e).sum(), [given, model.weight, model.bias])
        w = model.weight.detach()
        operands = (asymmetric_range(x, 8), int8(w, absmax(w))) if reuse else (clipped(x), clipped(w))
        own = [t.clone().requires_grad_() for t in operands]
        expected = torch.autograd.grad(F.conv2d(*own), own, clipped(e))
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        bias = e.sum((0, 2, 3))
        assert torch.allclose(found[2], int8(bias, absmax(bias)), rtol=1e-5)


def test_the_demonstrations_arithmetic():
    torch.manual_seed(0)
    model, x = nn.Conv2d(1, 2, 3), torch.rand(4, 1, 6, 6) + 1
    run, flow = started(Octo(arithmetic="octo-demo", compensation=False), model, x)
    run.training = False
    with quantized(model, run):
        once = model(x)
    with quantized(model, run):
        assert torch.equal(model(x), once)  # evaluation draws nothing
    # Zero points left out: inputs near 1.5 are seen around 0.
    with torch.no_grad():
        full, centred = model(x), model(x - 1.5)
    assert (once - centred).abs().max() < 0.3 < (once - full).abs().max()
    run.training = True
    with flow, torch.no_grad():
        assert not torch.equal(model(x), model(x))
    with pytest.raises(ValueError, match="codes of arithmetic 'octo-demo'"):
        run.exported()


def test_samples_tie_the_network_to_a_batch_size():
    model, x = nn.Conv2d(1, 2, 3), torch.randn(4, 1, 6, 6)
    run, _ = started(Octo(shape="sample"), model, x)
    with quantized(model, run):
        assert model(x[:2]).shape == (2, 2, 4, 4)
        with pytest.raises(ValueError, match="mini-batches of 4, not of 8; use 'chw'"):
            model(torch.cat([x, x]))


def test_outputs_may_be_clipped():
    model, x = nn.Conv2d(1, 1, 1, bias=False), torch.linspace(-4, 10, 8).reshape(1, 1, 2, 4)
    nn.init.ones_(model.weight)
    run, _ = started(Octo(compensation=False, clip_output=True), model, x)
    with quantized(model, run):
        y = model(x)
    assert (y.min().item(), y.max().item()) == pytest.approx((-3.8, 9.5), abs=0.05)


def test_other_formats_have_no_zero_point():
    model, x = nn.Conv2d(1, 1, 1, bias=False), torch.rand(1, 1, 4, 4)
    nn.init.ones_(model.weight)
    run, _ = started(Octo(format="FP134", compensation=False), model, x)
    with quantized(model, run):
        assert torch.equal(model(x), Clipped("FP134").at_absmax(x) * 1.0)


def test_options_that_mean_nothing_are_refused():
    for options, message in (
        ({"shape": "batch"}, "lac: shape 'batch': allowed are chw, channel, sample"),
        ({"clip": 1.5}, "octo: clip 1.5"),
        ({"rounding": "up"}, "octo: rounding 'up': allowed are nearest, stochastic"),
        ({"arithmetic": "octo-demo", "format": "INT4"}, "arithmetic 'octo-demo' is of INT8, not of INT4"),
        ({"regularization": -1}, "lac: regularization -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Octo(**options)


@pytest.mark.slow
def test_octo_check_7(trained):
    """End to end: within a point of full precision, over two seeds."""
    full = sum(found.metric for found in trained) / len(trained)
    assert digits.accuracy(Octo(), digits.SCRATCH) >= max(0.981, full - 0.01)
