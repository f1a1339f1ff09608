"""SLB: checks of docs/definitions/methods.md section 8."""

import math

import pytest
import torch
from torch import nn

from tests.training import digits, small
from tests.training.methods.helper import started
from training import train
from training.methods import SLB, quantized
from training.methods.method import NetworkInTraining
from training.methods.slb import calibrate_normalization, hard_weights, is_hard, soft_weights, temperature_of, values_of


def test_slb_check_1():
    torch.manual_seed(0)
    for bits in (1, 2, 4):
        logits, values = torch.randn(20_000, 2**bits), values_of(bits)
        difference = (soft_weights(logits, 1470.0, values) - hard_weights(logits, values)).abs()
        assert difference.mean() < 2e-3
        assert difference.quantile(0.99) < 2e-3


def test_slb_check_2():
    torch.manual_seed(0)
    values, temperature = values_of(2).double(), 3.7
    logits = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    weight, upstream = soft_weights(logits, temperature, values), torch.randn(50, dtype=torch.float64)
    (found,) = torch.autograd.grad((weight * upstream).sum(), logits)
    p = torch.softmax(temperature * logits, -1)
    assert torch.allclose(found, temperature * p * (values - weight[:, None]) * upstream[:, None], atol=1e-10, rtol=0)
    assert found.sum(-1).abs().max() < 1e-10
    two = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
    binary = soft_weights(two, temperature, values_of(1).double())
    assert torch.allclose(binary, torch.tanh(temperature * (two[:, 1] - two[:, 0]) / 2), atol=1e-14)
    (found,) = torch.autograd.grad(binary.sum(), two)
    slope = temperature * (1 - binary.detach() ** 2) / 2
    assert torch.allclose(found, torch.stack([-slope, slope], 1), atol=1e-10)


def test_slb_check_3():
    expected = {1: 1.0, 20: 1.0, 21: 1.2, 40: 1.2**20, 60: 1.2**40, 61: 1.2**40, 100: 1.2**40}
    for epoch, value in expected.items():
        assert temperature_of(epoch, 100, 1.0, 0.2, 0.6, 1.2) == pytest.approx(value, abs=1e-6)
    assert pytest.approx(38.3, abs=0.05) == 1.2**20
    assert pytest.approx(1469.8, abs=0.05) == 1.2**40
    assert not is_hard(59, 100, 0.6)
    assert is_hard(60, 100, 0.6)
    model, x = digits.network(), torch.randn(2, 1, 8, 8)
    run, _ = started(SLB(trained_epochs=40), model, x, epochs=60)
    run.begin_epoch(1)
    assert run.temperature == pytest.approx(1.2**21)
    run.begin_epoch(20)
    assert run.hard


def test_slb_check_4():
    torch.manual_seed(0)
    for bits in (1, 2, 4):
        model, x = digits.network(), torch.randn(4, 1, 8, 8)
        run, _ = started(SLB(bits=bits), model, x)
        run.training = False
        outputs = []
        for temperature in (0.1, 1.0, 1000.0):
            run.temperature = temperature
            with quantized(model, run):
                outputs.append(model(x))
        assert all(torch.equal(outputs[0], output) for output in outputs)
        for layer in run.layers.values():
            assert set(run.weight(layer).unique().tolist()) <= set(torch.linspace(-1, 1, 2**bits).tolist())
        # The linear layer is left as it is.
        assert list(run.layers) == ["0:conv2d", "3:conv2d", "7:conv2d"]


def test_ties_go_to_the_lowest_value():
    assert hard_weights(
        torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 2.0, 2.0, 1.0]]), values_of(2)
    ).tolist() == pytest.approx([-1, -1 / 3])


def test_slb_check_5():
    """With every epoch beyond the temperature's end: logits stay, whatever momentum and weight decay would do, and the
    rest learns."""
    for optimizer in ("sgd", "adamw"):
        options = {"epochs": 2, "rate": 0.05, "weight_decay": 0.1, "optimizer": optimizer}
        method = SLB(t_start_time=0.0, t_end_time=0.5)
        found = train(small.workload(), method=method, **options)
        fresh, _ = started(method, small.network(), small.images(16, 1)[0], epochs=2)
        assert found.method_state.hard
        for name, logits in found.method_state.parameters.items():
            assert torch.equal(logits, fresh.parameters[name])
        assert not torch.equal(found.model[1].weight, torch.ones(8))
        assert found.steps.loss.iloc[-4:].mean() < found.steps.loss.iloc[:4].mean()
    model, x = digits.network(), torch.randn(4, 1, 8, 8)
    run, flow = started(SLB(), model, x)
    run.hard = True
    with flow:
        found = flow.gradients(model(x).square().sum(), [*run.parameters.values(), model[1].weight])
    assert found[:-1] == (None,) * 3
    assert found[-1].abs().max() > 0


def test_slb_check_6():
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))
    model, x = nn.Sequential(*layers).train(), torch.randn(64, 1, 8, 8)
    run, flow = started(SLB(bits=2, bn_calibration=True), model, x)
    run.training = True
    with flow, torch.no_grad():
        for _ in range(50):
            model(x)  # running statistics of soft weights
    run.training = False

    def distance():
        seen = {}
        hooks = [
            model[k].register_forward_pre_hook(lambda _, args, k=k: seen.__setitem__(k, args[0].mean((0, 2, 3))))
            for k in (1, 4)
        ]
        with quantized(model, run):
            model(x)
        for hook in hooks:
            hook.remove()
        return (model[1].running_mean - seen[1]).norm(), (model[1].running_mean - seen[1]).norm() + (
            model[4].running_mean - seen[4]
        ).norm()

    before = distance()
    modes, momentum = [module.training for module in model], model[1].momentum
    flow.site = run.site
    with flow:
        calibrate_normalization(NetworkInTraining(model, lambda: model(x)))
    assert [module.training for module in model] == modes
    assert model[1].momentum == momentum
    after = distance()
    assert after[0] < before[0] / 10
    # The second layer's inputs depend on the first one's statistics in evaluation: its own mean and the batch's come
    # together too.
    assert after[1] < before[1] / 10


def test_calibration_comes_after_the_start_of_the_temperature():
    model = digits.network()
    run, _ = started(SLB(bn_calibration=True, t_start_time=0.2), model, torch.randn(2, 1, 8, 8), epochs=10)
    passes = []
    for epoch in range(1, 11):
        run.end_epoch(epoch, NetworkInTraining(model, lambda epoch=epoch: passes.append(epoch)))
    assert passes == list(range(3, 11))


def test_first_logits():
    model, x = nn.Sequential(nn.Conv2d(8, 64, 3), nn.Conv2d(64, 8, 3, groups=2)), torch.randn(2, 8, 8, 8)
    run, _ = started(SLB(bits=2), model, x)
    logits = run.parameters["logits.0.weight"]
    assert logits.shape == (64, 8, 3, 3, 4)
    assert logits.std().item() == pytest.approx(math.sqrt(2 / (64 * 9 * 4)), rel=0.02)
    assert run.parameters["logits.1.weight"].shape == (8, 32, 3, 3, 4)
    from_weights, _ = started(SLB(bits=4, init="weights", scale="per-layer"), model, x)
    w = model[0].weight.detach()
    hard = hard_weights(from_weights.parameters["logits.0.weight"], values_of(4))
    assert (hard - w / w.abs().max()).abs().max() <= 1 / 15 + 1e-6
    assert from_weights.parameters["scale.0.weight"].item() == pytest.approx(w.abs().mean().item())


def test_activations_of_eight_bits_after_a_delay():
    model, x = nn.Conv2d(1, 2, 3, bias=False), torch.randn(4, 1, 8, 8)
    run, flow = started(SLB(activations=True, activation_delay=3), model, x)
    run.training = True
    with flow, torch.no_grad():
        for _ in range(3):
            outputs = model(x)
            assert len(outputs.unique()) > 256
            run.end_step()
        outputs = model(x)
    assert len(outputs.unique()) <= 256
    low, high = run.ranges["input.:conv2d"]
    assert low.item() == pytest.approx(0.999**4 * -6 + (1 - 0.999**4) * x.min().item(), rel=1e-4)
    assert high.item() == pytest.approx(0.999**4 * 6 + (1 - 0.999**4) * x.max().item(), rel=1e-4)


def test_options_that_mean_nothing_are_refused():
    for options, message in (
        ({"bits": 3}, "slb: bits 3: allowed are 1, 2, 4"),
        ({"t_end_time": 0.1}, "slb: t_end_time 0.1: a number from 0.2 to 1"),
        ({"t_factor": 0.0}, "slb: t_factor 0"),
        ({"trained_epochs": -1}, "slb: trained_epochs -1"),
        ({"scale": "big"}, "slb: scale 'big': allowed are none, per-layer"),
    ):
        with pytest.raises(ValueError, match=message):
            SLB(**options)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 2])
def test_slb_check_7(bits):
    """End to end: fifty epochs, over two seeds, with a temperature that grows a thousandfold.

    The specification has a factor of 1.2, which in fifty epochs makes 38-fold: weights are then far from decided when
    they become hard, and the accuracy is the seed's luck: 97.6 to 98.2% here (benchmarks/methods.txt), where the
    specification's one seed had 99.2. A thousandfold, as its section 8.2 wants, gives more than 99%.
    """
    method = SLB(bits=bits, bn_calibration=True, t_factor=1000 ** (1 / 20))
    assert digits.accuracy(method, {**digits.SCRATCH, "epochs": 50}) >= 0.98
