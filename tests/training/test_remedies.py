"""Dampening and freezing, against exact arithmetic and plain Python (docs/definitions/training.md section 3)."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import formats
from formats import Rounding
from tests.training import small
from tests.training.test_weights import f32, fractions, plus, scheme, times
from training import train
from training.annealing import Annealed
from training.freezing import NEW, Freezing
from training.optimizers import MasterSGD
from training.weights import Streams, weights_of

UNEVEN = formats.from_codebook([-1.1, -0.4, 0, 0.3, 0.9, 1.7], name="uneven")


def a_weight(format, rounding=Rounding.NEAREST):
    torch.manual_seed(3)
    [weight] = weights_of(nn.Linear(7, 5, bias=False), scheme(format, rounding), Streams(0))
    return weight


@pytest.mark.parametrize("format", ["INT4", "LOG4", UNEVEN], ids=str)
@pytest.mark.parametrize("rounding", ["nearest", "hysteresis"])
def test_dampening_adds_its_gradient(format, rounding):
    """2 * strength * (w - w_q) within the range, nothing beyond it."""
    weight = a_weight(format, Rounding(rounding))
    weight.master.data.copy_(torch.linspace(-1.9, 1.9, 35).reshape(5, 7))
    weight.requantize()
    gradient = torch.randn(5, 7)
    weight.take_gradient(gradient, None)
    weight.dampen(0.0137)
    w, wq = fractions(weight.master), fractions(weight.parameter)
    low, high = min(wq), max(wq)  # those of the format: the master reaches beyond both
    assert min(w) < low
    assert max(w) > high
    pulls = [plus(a, -b) if low <= a <= high else 0 for a, b in zip(w, wq, strict=True)]
    wanted = [plus(g, times(p, f32(2 * 0.0137))) for g, p in zip(fractions(gradient), pulls, strict=True)]
    assert fractions(weight.master.grad) == wanted
    assert 0 in pulls
    assert len(set(pulls)) > 10


def test_frequencies_and_averages_by_the_rule():
    """Four weights: one to and fro, one seldom back, one that goes one way, one that rests."""
    paths = [[1, 0] * 15, [0, 1, *[1] * 12, 0, *[0] * 15], list(range(30)), [3] * 30]
    freezing, threshold = Freezing(torch.zeros(4)), 0.05
    frequency, average, frozen = [np.float32(0)] * 4, [np.float32(0)] * 4, [False] * 4
    keep, new = np.float32(1 - NEW), np.float32(NEW)
    last, before = [0] * 4, [0] * 4
    for step in range(30):
        values = [path[step] for path in paths]
        back = []
        for i, value in enumerate(values):
            direction = (value > before[i]) - (value < before[i])
            back.append(direction != 0 and direction == -last[i])
            last[i] = direction or last[i]
            frequency[i] = frequency[i] * keep + (new if back[i] else np.float32(0))
            if not frozen[i]:
                average[i] = average[i] * keep + np.float32(value) * new
            if frequency[i] > threshold and not frozen[i]:
                frozen[i], average[i] = True, np.float32(round(float(average[i])))
        freezing.see(torch.tensor(values, dtype=torch.float32), torch.tensor(back), threshold, torch.round)
        assert freezing.frequency.tolist() == [float(f) for f in frequency]
        assert freezing.average.tolist() == [float(a) for a in average]
        assert freezing.frozen.tolist() == frozen
        before = values
    assert frozen == [True, False, False, False]


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "hysteresis"])
def test_a_frozen_weight_stays(rounding):
    """Pushed to and fro across a threshold until it freezes, then far away."""
    weight = a_weight("INT4", Rounding(rounding))
    weight.freezing = Freezing(weight.parameter)
    optimizer = MasterSGD([weight], 1.0, 0.0, 0.0)
    weight.master.data.fill_(0.25)
    weight.master.data[0, 0] = 1.0  # the largest, which keeps the scale
    for number in range(8):
        push = torch.zeros(5, 7)
        push[1, 2] = (-1) ** number * 0.375  # one and a half steps
        weight.take_gradient(push, None)
        optimizer.step()
        weight.hold()
        weight.requantize()
        weight.freeze(0.025)
    frozen = weight.freezing.frozen
    assert frozen[1, 2]
    assert int(frozen.sum()) == 1
    fixed = weight.master.data[1, 2].item()
    assert fixed == weight.freezing.average[1, 2].item()
    assert fixed == formats.get("INT4").round(weight.master.detach())[1, 2].item()
    push = torch.full((5, 7), -0.01)
    push[1, 2] = 0.4
    weight.take_gradient(push, None)
    optimizer.step()
    weight.hold()
    weight.requantize()
    assert weight.master.data[1, 2].item() == weight.parameter[1, 2].item() == fixed
    assert weight.master.data[2, 2].item() != 0.25


def test_a_strength_over_the_steps():
    assert Annealed.of("dampening", 0.25) == Annealed.of("dampening", "0.25") == Annealed(0.25, 0.25)
    cosine = Annealed.of("freezing", "0.04:0.01")
    assert str(cosine) == "0.04:0.01"
    assert [cosine.at(step, 8) for step in (0, 2, 4)] == pytest.approx([0.04, 0.01 + 0.015 * (1 + 0.5**0.5), 0.025])
    assert {Annealed(0.1, 0.1).at(step, 3) for step in range(3)} == {0.1}
    for wrong, message in (
        ("a", "dampening 'a': a number is needed, or START:END"),
        ("1:2:3", "dampening '1:2:3': a number is needed"),
        ("", "dampening '': a number is needed"),
        (-0.1, "dampening -0.1: a number of at least 0 is needed"),
        ("0:nan", "dampening nan: a number of at least 0"),
        (math.inf, "dampening inf: a number of at least 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            train(small.workload(), epochs=1, dampening=wrong)
    with pytest.raises(ValueError, match=r"freezing 1\.5: a number from 0 to 1 is needed"):
        train(small.workload(), epochs=1, freezing="0.1:1.5")
    with pytest.raises(ValueError, match="dampening and freezing are for weights in a format"):
        train(small.workload(), epochs=1, weight="float32", freezing=0.1)


def test_weights_settle():
    """At a threshold of 0, what has flipped back once is fixed; what is left flips with the scale, for the most part,
    which moves often in so small a network."""
    options = {"epochs": 3, "rate": 0.05, "schedule": "constant", "weight": "INT4", "weight_rounding": "nearest"}
    means = ({}, {"freezing": 0}, {"dampening": 1.0})
    plain, frozen, dampened = (train(small.workload(), **options, **own) for own in means)
    assert frozen.settings["freezing"] == "0.0"
    assert dampened.settings["dampening"] == "1.0"
    last = plain.steps.epoch == 3
    assert frozen.steps.oscillation[last].sum() < plain.steps.oscillation[last].sum() / 2
    assert dampened.steps.oscillation[last].sum() < plain.steps.oscillation[last].sum() / 2
