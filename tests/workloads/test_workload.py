"""What a workload is made of."""

import pytest
import torch
from torch import nn

from workloads import Workload


def test_workload_refuses_wrong_parts():
    model, batches = nn.Linear(2, 2), [torch.zeros(1, 2)]

    def loss(m, b):
        return m(b).sum()

    for arguments, message in (
        ((3, model, batches, loss), "name"),
        (("w", None, batches, loss), "Module"),
        (("w", model, 5, loss), "sequence of mini-batches"),
        (("w", model, batches, None), "function of"),
    ):
        with pytest.raises(TypeError, match=message):
            Workload(*arguments)
    with pytest.raises(ValueError, match="has no mini-batches"):
        Workload("w", model, [], loss).minibatches()
    with pytest.raises(ValueError, match="batch size 0"):
        Workload("w", model, lambda size: batches, loss).minibatches(0)
