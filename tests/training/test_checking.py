"""What is looked at before training begins."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from predictor import measure
from predictor.measuring import session
from predictor.measuring.store import Store
from predictor.self_check import check
from tests.nets import net
from training import train
from workloads import Workload


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


BATCH = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4


def test_a_flow_that_is_not_what_torch_computes_is_refused():
    class Unsteady(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.calls = nn.Linear(4, 4), 0

        def forward(self, x):
            self.calls += 1
            return self.layer(x) * math.sqrt(self.calls)

    with pytest.raises(ValueError, match="does not repeat itself"):
        train(Workload("unsteady", Unsteady(), [BATCH], loss), epochs=1)


def test_a_loss_that_does_not_call_the_network_is_refused():
    model = nn.Sequential(nn.Linear(4, 4))
    workload = Workload("around", model, [BATCH], lambda m, b: F.cross_entropy(m[0](b[0]), b[1]))
    with pytest.raises(ValueError, match="did not call the model"):
        train(workload, epochs=1)


def test_a_network_without_matrices_or_without_a_loss_in_evaluation_is_trained_and_it_is_told():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def reset_parameters(self):
            nn.init.ones_(self.scale)

        def forward(self, x):
            return x * self.scale

    found = train(Workload("scale", nn.Sequential(Scale()), [BATCH], loss), epochs=1)
    assert "was not held against torch's own gradient" in found.coverage[0]

    class InTraining(nn.Linear):
        def forward(self, x):
            return super().forward(x) if self.training else {"boxes": x}

    found = train(Workload("detector", nn.Sequential(InTraining(4, 4)), [BATCH], loss), epochs=1)
    assert "was not held against torch's own gradient: the loss of workload detector fails" in found.coverage[0]


def test_the_check_is_made_once_and_the_store_knows_it(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(session, "check", lambda gradients: made.append(1) or check(gradients))
    with Store.open(tmp_path / "store.sqlite") as store:
        first = train(workload := net(batches=1), epochs=1, store=store)
        train(workload, epochs=1)
        second = train(net(batches=1), epochs=1, store=store)
        assert made == [1]
        measure(net(batches=1), ["FP134"], store=store)
        assert made == [1]
    train(net(batches=1), epochs=1)
    assert made == [1, 1]
    assert first.coverage == second.coverage
    assert first.coverage[0].startswith("points cover 100% of the multiply-accumulates")


def test_parameters_that_share_memory_and_not_themselves_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = nn.Parameter(model[0].weight.data)
    with pytest.raises(ValueError, match=r"parameter 2\.weight of workload flat lies in the memory of 0\.weight"):
        train(Workload("flat", model, [BATCH], loss), epochs=1, start="pretrained")
    # Side by side in one piece of memory, or one parameter: both are right.
    flat = torch.randn(8, 4)
    model[0].weight, model[2].weight = nn.Parameter(flat[::2]), nn.Parameter(flat[1::2])
    assert len(train(Workload("flat", model, [BATCH], loss), epochs=1, start="pretrained").steps) == 1
    model[2].weight = model[0].weight
    found = train(Workload("tied", model, [BATCH], loss), epochs=1, start="pretrained").model
    assert found[2].weight is found[0].weight
