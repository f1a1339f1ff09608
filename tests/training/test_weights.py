"""Masters, momentum and the weight quantizer in an optimizer step, against exact arithmetic
(docs/definitions/training.md sections 1 and 2)."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import formats
from formats import Rounding
from tests.formats.philox import philox_words
from tests.formats.reference import UNIT, Reference, to_float32
from tests.training import small
from training import train
from training.optimizers import MasterSGD
from training.result import Outcome
from training.scheme import TensorFormats
from training.weights import Streams, weights_of
from workloads import Workload

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
    return [Fraction(reference.round(float(v), Rounding.STOCHASTIC, u)) for v, u in zip(values, words, strict=True)]


def exponent(x):
    """floor(log2 |x|) of a fraction other than zero."""
    found = x.numerator.bit_length() - x.denominator.bit_length()
    return found if abs(x) >= Fraction(2) ** found else found - 1


def grid(format, largest):
    """All values of a profile or codebook, ascending, at the scale that the largest magnitude gives it."""
    if isinstance(format, formats.CodebookFormat):
        top = exponent(largest) - exponent(max(map(Fraction, format.values), key=abs)) if largest else 0
        values = [Fraction(v) * Fraction(2) ** top for v in format.values]
    else:
        values = [Fraction(v, 1 << UNIT) for v in Reference(format.profile, exponent(largest) if largest else 0).values]
    return (
        values if getattr(format, "signed", True) is False else sorted({sign * v for v in values for sign in (1, -1)})
    )


def hysteresis(format, values, previous):
    """The rule of docs/definitions/training.md section 2, on the sorted grid, by comparing fractions."""
    whole = grid(format, max(abs(v) for v in values))
    rounded = []
    for w, old in zip(values, previous, strict=True):
        below = max((v for v in whole if v <= w), default=whole[0])
        above = min((v for v in whole if v >= w), default=whole[-1])
        rounded.append(above if old > w else below)
    return rounded


def scheme(weight="FP134", rounding=Rounding.HYSTERESIS, master="FP169"):
    fp134 = formats.get("FP134")
    return TensorFormats(fp134, fp134, formats.get(weight), fp134, formats.get(master), rounding)


def fractions(x):
    return [Fraction(float(v)) for v in x.detach().reshape(-1)]


TABLES = [
    formats.from_codebook([-1.1, -0.4, 0, 0.3, 0.9, 1.7], name="uneven"),
    formats.from_codebook([0, 0.1, 0.35, 1], signed=True, name="magnitudes"),
]


@pytest.mark.parametrize("layer", [nn.Linear, nn.Conv2d])
@pytest.mark.parametrize("given", ["FP134", "LOG4", "T8.5x3@2", "NF4", *TABLES], ids=str)
def test_five_steps_in_exact_arithmetic(given, layer):
    """Linear layers have one scale, convolutions one an output channel."""
    torch.manual_seed(3)
    format, convolution = formats.get(given), layer is nn.Conv2d
    model = layer(7, 5, **({"kernel_size": 1} if convolution else {}), bias=False)
    [weight] = weights_of(model, scheme(format), Streams(SEED))
    optimizer = MasterSGD([weight], RATE, MOMENTUM, DECAY)
    groups = [range(start, start + 7) for start in range(0, 35, 7)] if convolution else [range(35)]
    w, wq, v = fractions(weight.master), fractions(weight.parameter), [Fraction(0)] * 35
    for step in range(5):
        # Gradients large enough to move the scale of the weights, so that hysteresis compares across scales.
        gradient = formats.get("FP134").round(torch.randn(5, 7) * 2**step).reshape(weight.master.shape)
        weight.take_gradient(gradient, None)
        optimizer.step()
        seen = weight.requantize()
        g = fractions(gradient)
        d = [plus(times(f32(DECAY), a), b) for a, b in zip(wq, g, strict=True)]
        v = stochastic([plus(times(f32(MOMENTUM), a), b) for a, b in zip(v, d, strict=True)], 2 * step)
        w = stochastic([plus(a, -times(f32(RATE), b)) for a, b in zip(w, v, strict=True)], 2 * step + 1)
        before, wq = (
            wq,
            [v for group in groups for v in hysteresis(format, [w[i] for i in group], [wq[i] for i in group])],
        )
        assert fractions(optimizer.state[weight.master]["momentum_buffer"]) == v
        assert fractions(weight.master) == w
        assert fractions(weight.parameter) == wq
        assert seen.flips == sum(a != b for a, b in zip(before, wq, strict=True))
        assert seen.underflows == sum(a != 0 and b == 0 for a, b in zip(w, wq, strict=True))
        if not convolution and format.name != "uneven":
            assert seen.overflows == sum(abs(a) > format.max(seen.top_low) for a in w)
    assert len({float(v) for v in wq}) > 3


OUTSIDE = ["NF4", "NF4/block4", "posit<6,1>", "INT8/real", "INT4/real/block3", "NVFP4"]


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "hysteresis"])
@pytest.mark.parametrize(
    "name", ["FP134", "LOG4", "INT4", "BM43", "MXFP4", "FP134/block4", "E4M3", "bfloat16", *OUTSIDE]
)
def test_every_rounding_of_the_weights(name, rounding):
    """What the network computes with is what the format makes of the master; with convolutions, channel by channel."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.ConvTranspose2d(6, 4, 3, bias=False), nn.Linear(4, 4, bias=False)
    )
    model.to(memory_format=torch.channels_last)
    streams = Streams(SEED)
    weights = weights_of(model, scheme(name, Rounding(rounding)), streams)
    own = formats.get(name)
    per_channel = own.granularity == "tensor" and not isinstance(own, formats.StandardFormat)
    axes = [0, 1, None]
    for weight, axis in zip(weights, axes, strict=True):
        format = formats.get(f"{name}/channel@{axis}") if per_channel and axis is not None else own
        assert torch.equal(weight.parameter, format.round(weight.master))
        before = weight.parameter.detach().clone()
        weight.master.data.mul_(torch.linspace(0.7, 1.4, weight.master.numel()).reshape(weight.master.shape))
        needs = {"stochastic": {"seed": SEED, "stream": streams.next}, "hysteresis": {"previous": before}}.get(
            rounding, {}
        )
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
    assert [name for name, w in weights.items() if w.in_formats] == ["0.weight"]
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


def test_a_start_from_scratch_needs_modules_that_can_be_reset():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4, 16))

        def forward(self, x):
            return x.flatten(1) @ self.w.T

    data = [(torch.randn(8, 1, 4, 4), torch.randint(0, 4, (8,)))]
    workload = Workload("bare", Bare(), data, small.loss)
    with pytest.raises(ValueError, match=r"layer \(network\) \(Bare\) has parameters and no reset_parameters"):
        train(workload, epochs=1)
    assert train(workload, epochs=1, start="pretrained").outcome is Outcome.FINISHED
