"""What a weight is called by what it is made of."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

from predictor.flow.dataflow import DataFlow


class Used(nn.Module):
    def __init__(self, use):
        super().__init__()
        self.w, self.v, self.use = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4, 4)), use

    def forward(self, x):
        return F.linear(x, self.use(self.w, self.v))


def origin_of(model, x):
    found = []
    flow = DataFlow(model)
    flow.site = found.append
    with flow:
        model(x)
    (site,) = found
    with flow, torch.no_grad():
        model(x)
    assert found[1] == site
    return site


@pytest.mark.parametrize(
    ("use", "weight", "parameter"),
    [
        (lambda w, v: w, "w", "w"),
        (lambda w, v: w.t(), "w", "w"),
        (lambda w, v: w.view(2, 2, 4).flatten(0, 1), "w", "w"),
        (lambda w, v: w.detach(), "w", "w"),
        (lambda w, v: w[1:3], "w[4:12]", None),
        (lambda w, v: w[:, :4:2].repeat_interleave(2, 1), ":linear.weight", None),
        (lambda w, v: torch.cat([w, v]), ":linear.weight", None),
        (lambda w, v: w + v @ w, ":linear.weight", None),
    ],
)
def test_names_of_weights(use, weight, parameter):
    site = origin_of(Used(use), torch.randn(2, 4))
    assert (site.weight, site.parameter) == (weight, parameter)


def test_numbers_that_are_moved_are_not_computed():
    x = torch.randn(2, 4)
    assert not origin_of(Used(lambda w, v: torch.cat([w, v.T])), x).origin.computed
    assert not origin_of(Used(lambda w, v: w.float().contiguous()), x).origin.computed
    assert origin_of(Used(lambda w, v: 0.3 * w), x).origin.computed
    assert origin_of(Used(lambda w, v: torch.cat([w, -v.exp()])), x).origin.parameters == ("v", "w")


@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (parametrizations.weight_norm, ["parametrizations.weight.original0", "parametrizations.weight.original1"]),
        (parametrizations.orthogonal, ["parametrizations.weight.original"]),
        (parametrizations.spectral_norm, ["parametrizations.weight.original"]),
        (weight_norm, ["weight_g", "weight_v"]),
        (lambda m: prune.random_unstructured(m, "weight", 0.5), ["weight_orig"]),
    ],
    ids=["weight_norm", "orthogonal", "spectral_norm", "old weight_norm", "pruning"],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_layers_compute(wrap, names):
    model = nn.Sequential(wrap(nn.Linear(4, 4))).eval()
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        origin = origin_of(model, torch.randn(2, 4)).origin
        assert origin.computed
        assert list(origin.parameters) == [f"0.{name}" for name in names]


def test_a_tied_weight_has_one_name():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    found = []
    flow = DataFlow(model)
    flow.site = lambda site: found.append(site.weight)
    with flow:
        model(torch.randn(2, 4))
    assert found == ["0.weight", "0.weight"]
