"""What is looked at before training begins."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from predictor import measure
from predictor.flow.coverage import Coverage
from predictor.measuring import session
from predictor.measuring.executors import InProcess
from predictor.measuring.self_check import Checked, check
from predictor.measuring.store import Store
from search import rank
from tests.nets import net
from training import train
from training.methods import LSQ
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


class Beside:
    """Measures where the check cannot be made on the way, as workers do."""

    threads = 1

    def run(self, work):
        assert work.check is None
        return InProcess().run(work)


def counted(batches=2):
    """A workload, and how many samples went through its network, or a copy of it, forwards and back."""
    workload, samples = net(batches=batches), [0, 0]

    def back(gradient):
        samples[1] += len(gradient)

    def forward(_, given, output):
        samples[0] += len(given[0])
        if output.requires_grad:
            output.register_hook(back)

    workload.model.register_forward_hook(forward)
    return workload, samples


@pytest.mark.parametrize(
    "do",
    [
        lambda workload, formats, store: measure(workload, formats, store=store),
        lambda workload, formats, store: measure(workload, formats, store=store, executor=Beside()),
        lambda workload, formats, store: rank(workload, formats, store=store),
        lambda workload, formats, store: train(workload, activation=formats[0], epochs=1, store=store),
        lambda workload, formats, store: train(workload, method=LSQ(), epochs=1, store=store),
    ],
    ids=["measure", "measure by workers", "rank", "train", "train by a method"],
)
def test_what_the_check_costs(do, tmp_path, monkeypatch):
    """One more pass over a mini-batch, forwards and back, and none once the store knows of it."""
    spent = []
    with Store.open(tmp_path / "store.sqlite") as store:
        for formats in (["FP134", "INT8", "FP143"], ["FP152", "INT6", "FP125"]):
            workload, samples = counted()
            do(workload, formats, store)
            spent.append(samples)
        # What is done without any check.
        monkeypatch.setattr(session.Measuring, "_is_checked", lambda *_: True)
        monkeypatch.setattr(session.Measuring, "checked", Checked(Coverage(1, 1, ()), 1, 1))
        workload, samples = counted()
        do(workload, ["FP143", "INT5", "FP161"], None)
        spent.append(samples)
    minibatch = len(net().minibatches()[0][0])
    assert [first - none for first, none in zip(spent[0], spent[2], strict=True)] == [minibatch, minibatch]
    assert spent[1] == spent[2]


def test_half_a_mini_batch_that_is_none_decides_nothing():
    """A network that takes nothing but whole mini-batches, or keeps something of their size, is checked too."""

    class Kept(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.state = nn.Linear(4, 4), None

        def forward(self, x):
            self.state = torch.zeros(len(x), 4) if self.state is None else self.state
            return self.layer(x) + self.state

    found = train(Workload("kept", Kept(), [BATCH], loss), epochs=1)
    assert found.coverage[0].startswith("points cover 100%")

    def whole(model, batch):
        if len(batch[0]) != 8:
            raise RuntimeError("8 are needed")
        return loss(model, batch)

    found = train(Workload("whole", nn.Sequential(nn.Linear(4, 4)), [BATCH], whole), epochs=1)
    assert found.coverage[0].startswith("points cover 100%")
