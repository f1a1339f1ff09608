"""An optimizer step and the weight quantizer, against exact arithmetic (docs/training.md sections 1 and 2)."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import formats
from formats import Rounding
from tests.formats.reference import Reference, to_float32
from tests.formats.test_modes import expected, philox_words
from training.optimizers import MasterSGD
from training.scheme import Scheme
from training.weights import Streams, weights_of

FP169 = tuple([10] * 63 + list(range(9, 0, -1)))
RATE, MOMENTUM, DECAY, SEED = 0.1, 0.9, 5e-4, 11


def exact(x):
    """A fraction rounded once to float32."""
    magnitude = to_float32(abs(Fraction(x)))
    return -magnitude if x < 0 else magnitude


def f32(x):
    return Fraction(float(np.float32(x)))


def plus(a, b):
    return Fraction(exact(a + b))


def times(a, b):
    return Fraction(exact(a * b))


def stochastic(values, stream):
    """Q_M by definition."""
    reference, words = Reference(FP169, 32), philox_words(SEED, stream, len(values))
    return [Fraction(expected(reference, float(v), Rounding.STOCHASTIC, u)) for v, u in zip(values, words, strict=True)]


def hysteresis(profile, values, previous):
    """The rule of docs/training.md section 2, on the sorted grid, by comparing fractions."""
    largest = max(abs(v) for v in values)
    grid = Reference(profile, 0 if not largest else int(np.floor(np.log2(float(largest))))).values
    whole = sorted({Fraction(sign * v, 1 << 1100) for v in grid for sign in (1, -1)})
    rounded = []
    for w, old in zip(values, previous, strict=True):
        below = max((v for v in whole if v <= w), default=whole[0])
        above = min((v for v in whole if v >= w), default=whole[-1])
        rounded.append(above if old > w else below)
    return rounded


def scheme(weight="FP134", rounding=Rounding.HYSTERESIS, master="FP169"):
    fp134 = formats.get("FP134")
    return Scheme(fp134, fp134, formats.get(weight), fp134, formats.get(master), rounding)


def fractions(x):
    return [Fraction(float(v)) for v in x.detach().reshape(-1)]


@pytest.mark.parametrize("name", ["FP134", "LOG4", "T8.5x3@2"])
def test_five_steps_in_exact_arithmetic(name):
    torch.manual_seed(3)
    model = nn.Linear(7, 5, bias=False)
    [weight] = weights_of(model, scheme(name), Streams(SEED))
    optimizer = MasterSGD([weight], RATE, MOMENTUM, DECAY)
    profile = formats.get(name).profile
    w, wq, v = fractions(weight.master), fractions(weight.parameter), [Fraction(0)] * 35
    for step in range(5):
        # Gradients large enough to move the scale of the weights, so that hysteresis compares across scales.
        gradient = formats.get("FP134").round(torch.randn(5, 7) * 2**step)
        weight.take_gradient(gradient, None)
        optimizer.step()
        seen = weight.requantize()
        g = fractions(gradient)
        d = [plus(times(f32(DECAY), a), b) for a, b in zip(wq, g, strict=True)]
        v = stochastic([plus(times(f32(MOMENTUM), a), b) for a, b in zip(v, d, strict=True)], 2 * step)
        w = stochastic([plus(a, -times(f32(RATE), b)) for a, b in zip(w, v, strict=True)], 2 * step + 1)
        before, wq = wq, hysteresis(profile, w, wq)
        assert fractions(optimizer.state[weight.master]["momentum_buffer"]) == v
        assert fractions(weight.master) == w
        assert fractions(weight.parameter) == wq
        assert seen.flips == sum(a != b for a, b in zip(before, wq, strict=True))
        assert seen.underflows == sum(a != 0 and b == 0 for a, b in zip(w, wq, strict=True))
        assert seen.overflows == sum(abs(a) > formats.get(name).max(seen.top_low) for a in w)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "hysteresis"])
@pytest.mark.parametrize("name", ["FP134", "LOG4", "INT4", "BM43", "MXFP4", "FP134/block4", "E4M3", "bfloat16"])
def test_every_rounding_of_the_weights(name, rounding):
    """What the network computes with is what the format makes of the master; with convolutions, channel by channel."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.ConvTranspose2d(6, 4, 3, bias=False), nn.Linear(4, 4, bias=False))
    model.to(memory_format=torch.channels_last)
    streams = Streams(SEED)
    weights = weights_of(model, scheme(name, Rounding(rounding)), streams)
    own = formats.get(name)
    per_channel = own.granularity == "tensor" and isinstance(own, formats.ProfileFormat)
    axes = [0, 1, None]
    for weight, axis in zip(weights, axes, strict=True):
        format = formats.get(f"{name}/channel@{axis}") if per_channel and axis is not None else own
        assert torch.equal(weight.parameter, format.round(weight.master))
        before = weight.parameter.detach().clone()
        weight.master.data.mul_(torch.linspace(0.7, 1.4, weight.master.numel()).reshape(weight.master.shape))
        needs = {"stochastic": {"seed": SEED, "stream": streams.next}, "hysteresis": {"previous": before}}.get(rounding, {})
        wanted = format.round(weight.master.detach(), rounding=rounding, **needs)
        seen = weight.requantize()
        assert torch.equal(weight.parameter, wanted)
        assert seen.flips == int((wanted != before).sum())
        assert weight.parameter.stride() == weight.master.stride()


def test_channels_have_scales_of_their_own():
    model = nn.Conv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([1.0, 0.001]).reshape(2, 1, 1, 1))
    [weight] = weights_of(model, scheme("LOG4"), Streams(0))
    seen = weight.requantize()
    assert (seen.top_low, seen.top_high) == (-10, 0)
    assert weight.parameter.reshape(-1).tolist()[1] == 2.0**-10


def test_normalization_and_biases_stay_float32():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    weights = {w.name: w for w in weights_of(model, scheme(), Streams(0))}
    assert [name for name, w in weights.items() if w.quantized] == ["0.weight"]
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(weights[name].master, start[name])
        gradient = torch.full_like(start[name], 1e-3)
        weights[name].take_gradient(gradient, None)
        assert weights[name].master.grad is gradient
        assert weights[name].requantize() is None
    optimizer = MasterSGD(list(weights.values()), 0.1, 0.0, 0.0)
    optimizer.step()
    moved = start["0.bias"] - torch.full((4,), 1e-3) * np.float32(0.1)
    assert torch.equal(model[0].bias, moved)


def test_formats_that_cannot_round_as_asked_are_refused():
    for name, rounding in (("NF4", "hysteresis"), ("NF4", "stochastic"), ("INT8/real", "hysteresis"), ("NVFP4", "stochastic")):
        with pytest.raises(ValueError, match=f"weight format {name} cannot round by {rounding} .*rounds to nearest only"):
            scheme(name, Rounding(rounding))
    assert scheme("NF4", Rounding.NEAREST).weight is formats.get("NF4")
    with pytest.raises(ValueError, match="weight rounding 'up': allowed are nearest, stochastic, hysteresis"):
        scheme("FP134", Rounding.UP)
    with pytest.raises(ValueError, match="master format NF4 cannot round by stochastic"):
        scheme(master="NF4")
