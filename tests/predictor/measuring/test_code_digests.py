"""Fingerprints of code: what tells two losses apart, and what does not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from predictor.measuring.code_digests import code_digest
from predictor.measuring.units import Subject
from predictor.measuring.validity import batch_digest, context_of
from tests.nets import net
from tests.processes import python


def helper(x):
    return x.square().mean()


def test_losses_are_told_apart_by_what_they_compute():
    def make(scale, power=2, weight=None):
        return lambda m, b: (F.cross_entropy(m(b[0]), b[1], weight=weight) * scale) ** power

    def nested(scale):
        def inner(x):
            return sum(x * scale for _ in range(3))

        return lambda m, b: inner(m(b))

    class Loss:
        def __init__(self, scale):
            self.scale = scale

        def __call__(self, m, b):
            return helper(m(b)) * self.scale

    values = [
        *(make(1.0), make(2.0), make(1.0, 3), make(1.0, weight=torch.ones(10)), make(1.0, weight=torch.zeros(10))),
        *(nested(1), nested(2), Loss(1), Loss(2), nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        *(lambda m, b: helper(m(b)), lambda m, b: m(b).mean(), lambda m, b: -m(b).mean(), lambda m, b: m(b).mean() + 1),
    ]
    digests = [code_digest(value) for value in values]
    assert len(set(digests)) == len(digests)
    again = [
        make(1.0),
        make(2.0),
        make(1.0, 3),
        make(1.0, weight=torch.ones(10)),
        make(1.0, weight=torch.zeros(10)),
        nested(1),
        nested(2),
    ]
    assert [code_digest(value) for value in again] == digests[:7]


def test_a_function_that_a_loss_calls_counts(monkeypatch):
    def loss(m, b):
        return helper(m(b))

    before = code_digest(loss)
    monkeypatch.setitem(globals(), "helper", lambda x: x.square().sum())
    assert code_digest(loss) != before


@pytest.mark.slow
def test_fingerprints_are_equal_in_every_process():
    code = (
        "from predictor.measuring.validity import context_of, batch_digest; "
        "from predictor.measuring.units import Subject; from tests.nets import net; "
        "print(context_of(Subject(net()), threads=1).digest, batch_digest(net().batches[1]))"
    )
    found = {python("-c", code, PYTHONHASHSEED=seed).stdout for seed in ("1", "2")}
    assert found == {f"{context_of(Subject(net()), threads=1).digest} {batch_digest(net().batches[1])}\n"}
