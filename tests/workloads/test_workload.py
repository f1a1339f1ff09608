"""What a workload is made of."""

import pytest
import torch
from torch import nn

from predictor import measure
from training import train
from training.calibration import quantize
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


class Holds(nn.Module):
    """A network with a tensor of some kind."""

    def __init__(self, held):
        super().__init__()
        self.held = held if isinstance(held, nn.Module) else nn.Parameter(held, requires_grad=False)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (torch.zeros(2, 2, device="meta"), "held of the model of workload w is on the meta device"),
        (nn.Linear(2, 2, device="meta"), r"held\.weight of the model of workload w is on the meta device"),
        (nn.LazyLinear(2), r"held\.weight of the model of workload w has no shape yet"),
        (nn.LazyBatchNorm1d(), r"held\.weight of the model of workload w has no shape yet"),
        (torch.eye(2).to_sparse(), r"held of the model of workload w is torch\.sparse_coo"),
    ],
)
def test_what_holds_no_numbers_is_refused_by_name(held, message):
    made = Workload("w", Holds(held), [torch.zeros(1, 2)], lambda m, b: b.sum())
    for use in (
        lambda: measure(made, ["FP134"]),
        lambda: train(made, epochs=1),
        lambda: quantize(made, adaround=None),
    ):
        with pytest.raises(ValueError, match=message):
            use()
