"""Recorded tensors: which, whose, and back from a file."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from predictor.recording import record, write
from search.fitting import read_tensors
from workloads import Workload


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    batches = [(torch.randn(4, 6), torch.tensor([0, 1, 2, 0])) for _ in range(2)]
    return Workload("net", model, batches, lambda m, b: F.cross_entropy(m(b[0]), b[1]))


def test_activations_and_errors_of_the_first_minibatch(tmp_path):
    workload = network()
    found = record(workload)
    assert list(found) == [":input A", "0:linear A", "0:linear E", "2:linear A", "2:linear E"]
    x, target = workload.minibatches()[0]
    hidden = workload.model[0](x).detach().requires_grad_()
    logits = workload.model[2](hidden.relu())
    logits.retain_grad()
    F.cross_entropy(logits, target).backward()
    for name, expected in {
        ":input A": x,
        "0:linear A": hidden,
        "2:linear A": logits,
        "0:linear E": hidden.grad,
        "2:linear E": logits.grad,
    }.items():
        assert found[name] == pytest.approx(expected.detach().numpy(), rel=1e-6), name
        assert found[name].dtype == np.float32
    write(found, tmp_path / "dump.npz")
    back = read_tensors(tmp_path / "dump.npz")
    assert list(back) == list(found)
    assert all((back[name].numpy() == found[name]).all() for name in found)


def test_only_the_layers_that_were_asked_for():
    assert list(record(network(), ["2"])) == ["2:linear A", "2:linear E"]
    with pytest.raises(ValueError, match="layer 'fc' has no point; there are 0, 2"):
        record(network(), ["0", "fc"])
