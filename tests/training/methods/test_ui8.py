"""Unified INT8: checks of docs/definitions/methods.md section 4."""

import itertools
import math

import pytest
import torch
from torch import nn

from tests.training import digits, small
from tests.training.methods.helper import distributions, started
from training import train
from training.methods import UnifiedInt8
from training.methods.direction import deviation_of, phi
from training.methods.ui8 import best_ratio, deviation_slope
from training.quantizers.clipped import Clipped, absmax

INT8, INT4 = Clipped("INT8"), Clipped("INT4")


def test_ui8_check_1():
    expected = {0.0: 1.0, 0.01: 0.819, 0.05: 0.368, math.log(10) / 20: 0.1}
    for distance, value in expected.items():
        assert phi(distance, 20, 0.1) == pytest.approx(value, abs=1e-3)
    values = [phi(2 * k / 1000, 20, 0.1) for k in range(1001)]
    assert all(b <= a for a, b in itertools.pairwise(values))
    assert values[0] == 1
    assert values[-1] == 0.1
    assert phi(math.log(10) / 20 * 1.001, 20, 0.1) == 0.1
    assert phi(math.log(10) / 20 * 0.999, 20, 0.1) > 0.1


@pytest.mark.parametrize("search", ["grid", "grad"])
def test_ui8_check_2(search):
    for quantizer in (INT8, INT4, Clipped("FP134")):
        for g in distributions(20_000).values():
            largest = absmax(g)
            best = deviation_of(quantizer(g, largest * best_ratio(g, quantizer, search)), g)
            assert best <= deviation_of(quantizer(g, largest), g)
    heavy = distributions(100_000)["t3"]
    best = deviation_of(INT4(heavy, absmax(heavy) * best_ratio(heavy, INT4, search)), heavy)
    assert best < 0.25 * deviation_of(INT4(heavy, absmax(heavy)), heavy)


def test_ui8_check_3():
    for quantizer in (INT8, INT4):
        for name, g in distributions(5_000).items():
            largest = absmax(g)
            scan = min(deviation_of(quantizer(g, largest * k / 1000), g) for k in range(1, 1001))
            found = deviation_of(quantizer(g, largest * best_ratio(g, quantizer)), g)
            assert found <= 1.01 * scan, (name, quantizer.format.name)


@pytest.mark.parametrize("name", ["INT8", "INT4", "FP134"])
def test_ui8_check_4(name):
    """Against differences of the deviation with rounding residuals, and who is clipped, frozen."""
    quantizer, g = Clipped(name), distributions(2000)["t3"].double()
    for ratio in (1.0, 0.5, 0.1):
        c = absmax(g).double() * ratio
        scaled = g / (c / quantizer.largest)
        residual = quantizer.nearest(scaled) - scaled
        inside = scaled.abs() <= quantizer.largest

        def distance(at, inside=inside, residual=residual, largest=quantizer.largest):
            quantized = torch.where(inside, g + residual * at / largest, g.sign() * at)
            return 1 - (g * quantized).sum() / (g.norm() * quantized.norm())

        width = 1e-4 * c
        # Of fourth order, since the second leaves more than 1e-8.
        near, far = distance(c + width) - distance(c - width), distance(c + 2 * width) - distance(c - 2 * width)
        assert deviation_slope(g, c, quantizer) == pytest.approx(((8 * near - far) / (12 * width)).item(), abs=1e-8)


def one_step(beta):
    workload = small.workload(1)
    before = {name: p.detach().clone() for name, p in workload.model.named_parameters()}
    options = {"epochs": 1, "rate": 1.0, "weight_decay": 0.0, "start": "pretrained", "schedule": "constant"}
    # Two levels, so that directions are bad and learning rates differ.
    found = train(workload, method=UnifiedInt8(beta=beta, format="INT3"), **options)
    return {
        name: (p.detach() - before[name]).double() for name, p in found.model.named_parameters()
    }, found.method_state.rates.deviations


def test_ui8_check_5():
    """The learning rate's factor is phi for the weights of a layer, and 1 for everything else."""
    (slow, deviations), (full, same) = one_step(0.1), one_step(1.0)
    assert deviations == same
    assert set(deviations) == {"0.weight", "3.weight", "8.weight"}
    factors = {name: phi(distance, 20, 0.1) for name, distance in deviations.items()}
    assert min(factors.values()) < 0.9
    for name, moved in full.items():
        if name in factors:
            assert (slow[name].norm() / moved.norm()).item() == pytest.approx(factors[name], rel=1e-6)
        else:
            assert torch.equal(slow[name], moved)


def test_ui8_check_6():
    for g in distributions(5000).values():
        ratio = best_ratio(g, INT4)
        distance = deviation_of(INT4(g, absmax(g) * ratio), g)
        for scale in (2.0**-66, 2.0**33):
            # Powers of two: the same bits.
            assert best_ratio(g * scale, INT4) == ratio
            assert deviation_of(INT4(g * scale, absmax(g * scale) * ratio), g * scale) == pytest.approx(
                distance, rel=1e-12
            )
        for scale in (1e-20, 1e10):
            assert best_ratio(g * scale, INT4) == pytest.approx(ratio, rel=1e-2)
            moved = deviation_of(INT4(g * scale, absmax(g * scale) * ratio), g * scale)
            assert moved == pytest.approx(distance, rel=1e-4)
            assert phi(moved, 20, 0.1) == pytest.approx(phi(distance, 20, 0.1), rel=1e-4)


def test_zero_gradients_have_no_direction():
    zero, one = torch.zeros(10), torch.ones(10)
    assert deviation_of(zero, zero) == 0
    assert deviation_of(zero, one) == 1
    assert deviation_of(-one, one) == pytest.approx(2)
    assert torch.equal(INT8(zero, absmax(zero)), zero)
    assert best_ratio(zero, INT8) == 1
    assert deviation_slope(zero, torch.tensor(0.0), INT8) == 0


def test_between_searches_the_ratio_stays():
    """A gradient a thousand times smaller is quantized in the same way."""
    model, x = nn.Conv2d(1, 4, 3), torch.randn(4, 1, 8, 8)
    run, _ = started(UnifiedInt8(period=2, format="INT4", error_rounding="nearest"), model, x)
    [layer] = run.layers.values()
    errors = distributions(4 * 4 * 6 * 6)["t3"].reshape(4, 4, 6, 6)
    first = run._error(layer, errors)[0]
    ratio = run.ratios[layer.name]
    run.end_step()
    assert torch.allclose(run._error(layer, 2.0**-10 * errors.flip(0))[0], 2.0**-10 * first.flip(0), rtol=1e-6)
    assert run.ratios[layer.name] == ratio
    run.end_step()
    run._error(layer, errors.sign() + 0.1 * errors)
    assert run.ratios[layer.name] != ratio


def test_activations_with_a_running_threshold():
    model = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(model.weight)
    run, flow = started(UnifiedInt8(activation_threshold="ema"), model, torch.full((1, 1, 2, 2), 4.0))
    x = torch.tensor([1.0, 2.0, 3.0, 14.0]).reshape(1, 1, 2, 2).requires_grad_()
    with flow:
        y = model(x)
        (found,) = flow.gradients(y.sum(), [x])
    # 0.9 * 4 + 0.1 * 14; beyond it values are clipped and the gradient is zero.
    assert y.max().item() == pytest.approx(5.0)
    assert torch.equal(found != 0, x.detach() <= 5)
    run.training = False
    with torch.no_grad(), flow:
        model(100 * x)
    assert run.tensors()[":conv2d"].item() == pytest.approx(5.0)


def test_options_that_mean_nothing_are_refused():
    for options, message in (
        ({"alpha": -1.0}, "ui8: alpha -1.0"),
        ({"beta": 2.0}, "ui8: beta 2.0: a number from 0 to 1"),
        ({"period": 0}, "ui8: period 0"),
        ({"search": "all"}, "ui8: search 'all': allowed are grid, grad"),
        ({"error_rounding": "up"}, "ui8: error_rounding 'up': allowed are nearest, stochastic"),
        ({"format": "BM43"}, "format BM43 has no single scale"),
        ({"format": "FP999"}, "unknown format 'FP999'"),
    ):
        with pytest.raises(ValueError, match=message):
            UnifiedInt8(**options)
    assert UnifiedInt8(format="NF4", error_rounding="nearest")


@pytest.mark.slow
def test_ui8_check_7(trained):
    """End to end: within a point of full precision, over two seeds."""
    full = sum(found.metric for found in trained) / len(trained)
    assert digits.accuracy(UnifiedInt8(), digits.SCRATCH) >= max(0.981, full - 0.01)
