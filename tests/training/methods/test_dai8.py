"""Distribution Adaptive INT8: checks of docs/definitions/methods.md section 3."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from torch import nn

import formats
from tests.training import digits
from tests.training.methods.helper import distributions, started
from training.methods import DistributionAdaptiveInt8
from training.methods.dai8 import is_gaussian, next_thresholds
from training.quantizers.clipped import Clipped, absmax

INT8 = Clipped("INT8")


def test_dai8_check_1():
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=1_000_000), 2.5
    clipped = np.clip(x, -c, c)
    by_threshold = np.rint(127 * clipped / c)
    step = c / 127
    by_step = np.rint(clipped / step)
    assert (by_threshold == by_step).all()
    values = by_threshold * c / 127, by_step * step
    assert (np.abs(values[0] - values[1]) <= 2 * np.spacing(np.abs(values[0]))).all()
    # The definition: the step rounded to float32; the integer nearest to the exact quotient; one product, rounded once.
    single = x.astype(np.float32)
    s = np.float32(c / 127)
    integers = np.rint(np.clip(single.astype(np.float64) / np.float64(s), -127, 127))
    expected = (integers * np.float64(s)).astype(np.float32)
    found = INT8(torch.from_numpy(single), torch.tensor(c))
    assert (found.numpy() == expected).all()
    # At the largest magnitude that is the project's INT8 with a real scale.
    at_absmax = INT8(torch.from_numpy(single), absmax(torch.from_numpy(single)))
    assert (at_absmax.numpy() == formats.get("INT8/real").round(single)).all()


def test_dai8_check_2():
    torch.manual_seed(0)
    scales = torch.logspace(-4, 0, 16)
    model, x = nn.Conv2d(3, 16, 3, padding=1), torch.randn(8, 3, 10, 10)
    run, _ = started(DistributionAdaptiveInt8(error_rounding="nearest"), model, x)
    [layer] = run.layers.values()
    e = torch.randn(8, 16, 10, 10) * scales[:, None, None]
    for_weight, for_input = run.errors(layer, e)

    def relative(quantized):
        return (quantized - e).transpose(0, 1).flatten(1).norm(dim=1) / e.transpose(0, 1).flatten(1).norm(dim=1)

    assert relative(for_weight).max() < 0.02
    assert relative(for_input)[0] == 1
    assert relative(for_input)[-1] < 0.02


def test_dai8_check_3():
    one, not_gaussian = torch.ones(1), torch.tensor([False])
    for k, rate in ((1.0, 0.8), (1.5, 0.5), (2.0, 0.4)):
        stored = torch.tensor([7.0])
        for _ in range(60):
            stored = next_thresholds(stored, one, not_gaussian, k, rate)
        assert stored.item() == pytest.approx(1 / k, rel=1e-6)
    assert next_thresholds(one, 10 * one, not_gaussian, 1.0, 0.8).item() == pytest.approx(8.2)
    assert next_thresholds(one, 10 * one, ~not_gaussian, 1.0, 0.8) == 10
    assert next_thresholds(one, 0 * one, not_gaussian, 1.0, 0.8) == 1  # a dead channel


def test_dai8_check_4():
    torch.manual_seed(0)
    samples = distributions(100_000)
    spike = torch.where(torch.rand(100_000) < 0.95, 0.01 * torch.randn(100_000), torch.randn(100_000))
    masked = samples["normal"] * (torch.rand(100_000) < 0.5)
    rows = torch.stack([samples["normal"], samples["laplace"], samples["t3"], spike, masked])
    for sigma in ("mean", "zero"):
        assert is_gaussian(rows, 0.3, sigma).tolist() == [True, False, False, False, False]
    # Gradients as small as these still have a distribution.
    assert is_gaussian(1e-15 * rows, 0.3).tolist() == [True, False, False, False, False]


def gaussian_error(c, alpha, largest=4.0):
    """The weighted error of clipping a standard normal at c."""

    def weighted(g):
        return math.exp(alpha * (g - largest)) * math.exp(-g * g / 2)

    inside = quad(weighted, 0, c, epsabs=0)[0] * c / 127
    return inside + 2 * quad(lambda g: (g - c) * weighted(g), c, largest, epsabs=0)[0]


def gaussian_condition(c, alpha, largest=4.0):
    def weighted(g):
        return math.exp(alpha * (g - largest)) * math.exp(-g * g / 2)

    inside, outside = quad(weighted, 0, c, epsabs=0)[0], quad(weighted, c, largest, epsabs=0)[0]
    return (inside + c * weighted(c)) / 127 - 2 * outside


def test_dai8_check_5():
    """Where the thresholds of both classes come from: the stationarity condition has its root at the least error."""
    for alpha, ratio in ((0, 0.72), (1, 0.90), (2, 0.98), (4, 0.994), (8, 0.996)):
        least = minimize_scalar(
            gaussian_error, bounds=(1, 4), args=(alpha,), method="bounded", options={"xatol": 1e-6}
        ).x
        root = brentq(gaussian_condition, 1, 4, args=(alpha,))
        assert least == pytest.approx(root, rel=0.005)
        assert root / 4 == pytest.approx(ratio, abs=0.006)
    # A spike: 90% of the mass in the first 2% of the range.
    width, largest, a, b = 0.02, 1.0, 0.9 / 0.02, 0.1 / 0.98
    alpha = 1e-3

    def density(g):
        return a if g < width else b

    def spike_error(c):
        def weighted(g):
            return math.exp(alpha * g) * density(g)

        inside = quad(weighted, 0, c, points=[width])[0] * c / 127
        return inside + 2 * quad(lambda g: (g - c) * weighted(g), c, largest)[0]

    def condition(c):
        grown = math.exp(alpha * c)
        left = a * math.expm1(alpha * width) + b * (grown - math.exp(alpha * width)) + alpha * c * b * grown
        return left - 254 * b * (math.exp(alpha * largest) - grown)

    least = minimize_scalar(spike_error, bounds=(0.5, 1), method="bounded", options={"xatol": 1e-6}).x
    root = brentq(condition, 0.5, 1)
    assert least == pytest.approx(root, rel=0.005)
    assert root == pytest.approx((254 * largest - width * (a / b - 1)) / 256, rel=0.005)


def test_dai8_check_6():
    """The channel's step is a factor of its row of dW, so that the sum runs over integers."""
    torch.manual_seed(0)
    model, x = nn.Conv2d(3, 6, 3, padding=1), torch.randn(4, 3, 8, 8)
    run, flow = started(DistributionAdaptiveInt8(error_rounding="nearest"), model, x)
    [layer] = run.layers.values()
    e = torch.randn(4, 6, 8, 8) * torch.logspace(-3, 0, 6)[:, None, None]
    with flow:
        found, for_input = flow.gradients((model(given := x.clone().requires_grad_()) * e).sum(), [model.weight, given])
    steps = INT8.step(run.thresholds[layer.name])
    codes, step = INT8.encode(e, run.thresholds[layer.name][:, None, None])
    assert torch.equal(step.flatten(), steps)
    inputs = INT8(x, absmax(x))
    integers = F.conv2d(
        inputs.transpose(0, 1).double(), codes.view(torch.int8).double().transpose(0, 1), padding=1
    ).transpose(0, 1)
    assert torch.allclose(
        found, (integers * steps[:, None, None, None]).float(), rtol=1e-5, atol=1e-5 * found.abs().max()
    )
    # dx from one scale for the tensor.
    weight, own = INT8(model.weight.detach(), absmax(model.weight)), x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.conv2d(own, weight, padding=1), own, INT8(e, absmax(e)))
    assert torch.equal(for_input, expected)


def test_channels_of_linear_layers_and_transposed_convolutions():
    model, x = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Flatten(2), nn.Linear(25, 7)), torch.randn(4, 2, 4, 4)
    run, flow = started(DistributionAdaptiveInt8(), model, x)
    with flow:
        flow.gradients(model(x).square().sum(), list(model.parameters()))
    assert {name: len(c) for name, c in run.thresholds.items()} == {"0:conv_transpose2d": 3, "2:linear": 7}


def test_first_and_last_layers_may_be_left_out():
    model, x = digits.network(), torch.randn(4, 1, 8, 8)
    run, _ = started(DistributionAdaptiveInt8(skip_first=True, skip_last=True), model, x)
    assert list(run.layers) == ["3:conv2d", "7:conv2d"]
    run, _ = started(DistributionAdaptiveInt8(include_linear=False), model, x)
    assert list(run.layers) == ["0:conv2d", "3:conv2d", "7:conv2d"]


def test_direction_rates_slow_layers_down():
    model, x = digits.network(), torch.randn(4, 1, 8, 8)
    run, flow = started(DistributionAdaptiveInt8(format="INT4", direction_rate=True), model, x)
    with flow:
        flow.gradients(model(x).square().sum(), list(model.parameters()))
    rates = {name: {"lr": 1.0} for name in run.rates.deviations}
    run.before_update(rates)
    assert set(rates) == {"0.weight", "3.weight", "7.weight", "12.weight"}
    assert all(
        rates[name]["lr"] == pytest.approx(max(math.exp(-20 * d), 0.1)) for name, d in run.rates.deviations.items()
    )
    assert run.group("0.weight").own == "0.weight"
    assert run.group("0.bias").own == ""


def test_options_that_mean_nothing_are_refused():
    for options, message in (
        ({"k": 3.0}, "dai8: k \\* rate is 2.4; thresholds are stable only"),
        ({"rate": 0.0}, "dai8: k \\* rate is 0"),
        ({"gaussian": 1.5}, "dai8: gaussian 1.5"),
        ({"sigma": "median"}, "dai8: sigma 'median': allowed are mean, zero"),
    ):
        with pytest.raises(ValueError, match=message):
            DistributionAdaptiveInt8(**options)


@pytest.mark.slow
def test_dai8_check_7(trained):
    """End to end: within a point of full precision, over two seeds."""
    full = sum(found.metric for found in trained) / len(trained)
    assert digits.accuracy(DistributionAdaptiveInt8(), digits.SCRATCH) >= max(0.981, full - 0.01)
