"""What is told of a network by its shapes alone, against its passes."""

import copy

import pytest
import torch
from torch import nn

from predictor import measure_recipes
from predictor.recipe_comparison.outlook import estimate_recipes
from predictor.requirements.memory import memory_of
from predictor.requirements.multiply_accumulates import product_costs
from predictor.requirements.shapes import Outlook, foreseen
from reports.tables import recipes as tables
from workloads import Workload, load


class Routed(nn.Module):
    """Sends rows to one of two layers, by their numbers."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        chosen = x[:, 0] > 0
        return self.one(x[chosen]).sum() + self.other(x[~chosen]).sum()


class Tied(nn.Module):
    """An embedding that is the head too, attention, a normalization with buffers."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm = nn.Embedding(11, 8), nn.BatchNorm1d(8)
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.norm(self.embedding(tokens).mT).mT
        return self.head(x + self.attention(x, x, x)[0])


def mean_square(model, batch):
    return model(batch).square().mean()


def tied():
    torch.manual_seed(0)
    return Workload("tied", Tied(), [torch.randint(0, 11, (3, 7))], mean_square)


def on_meta(workload):
    parameters = {id(p): nn.Parameter(p.detach().to("meta")) for p in workload.model.parameters()}
    return Workload("meta", copy.deepcopy(workload.model, parameters), workload.batches, workload.loss)


@pytest.mark.parametrize("name", ["tied", "transformer", "lstm", "mobilenetv2"])
def test_shapes_tell_what_passes_do(name):
    workload = tied() if name == "tied" else load(name)
    batch = workload.minibatches(None if name == "tied" else 3)[0]
    state = {key: value.clone() for key, value in workload.model.state_dict().items()}
    expected = Outlook(product_costs(workload, batch), memory_of(workload, batch), by_shapes=True)
    assert foreseen(workload, batch) == expected
    assert foreseen(on_meta(workload), batch) == expected
    assert all(torch.equal(value, state[key]) for key, value in workload.model.state_dict().items())


def test_attention_is_counted_as_it_is_measured():
    """What softmax gives, of each head, is kept."""
    short, long = (Workload("tied", Tied(), [torch.zeros(1, n, dtype=torch.int64)], mean_square) for n in (64, 128))
    one, other = (memory_of(of, of.batches[0]).activations for of in (short, long))
    assert other - one > 4 * 2 * (128**2 - 64**2)


def test_a_network_that_looks_at_numbers():
    torch.manual_seed(0)
    workload = Workload("routed", Routed(), [torch.randn(6, 4)], lambda m, b: m(b))
    batch = workload.batches[0]
    expected = Outlook(product_costs(workload, batch), memory_of(workload, batch), by_shapes=False)
    assert foreseen(workload, batch) == expected
    assert "it was carried out" in tables.estimate("routed", estimate_recipes(workload, ["mxfp8"]))
    assert "carried out" not in tables.estimate("tied", estimate_recipes(tied(), ["mxfp8"]))
    with pytest.raises(ValueError, match=r"routed is on the meta device, and cannot be followed by shapes: .*aten"):
        foreseen(Workload("routed", Routed().to("meta"), workload.batches, workload.loss), batch)


@pytest.mark.parametrize("look", [lambda x: x.sum().item(), lambda x: float(x.detach().numpy().sum())])
def test_numbers_that_leave_torch(look):
    class Looks(nn.Linear):
        def forward(self, x):
            return super().forward(x) * look(x)

    workload = Workload("looks", Looks(4, 4), [torch.ones(6, 4)], mean_square)
    batch = workload.batches[0]
    assert foreseen(workload, batch) == Outlook(product_costs(workload, batch), memory_of(workload, batch), False)


def test_a_fault_of_our_own_is_not_taken_for_the_networks(monkeypatch):
    def fails(*_):
        raise KeyError("ours")

    monkeypatch.setattr("predictor.requirements.shapes.memory_of", fails)
    with pytest.raises(KeyError, match="ours"):
        foreseen(tied(), tied().batches[0])


def test_what_is_on_the_meta_device_is_not_measured():
    with pytest.raises(ValueError, match=r"meta is on the meta device and holds no numbers: load its weights"):
        measure_recipes(on_meta(tied()), ["mxfp8"])
