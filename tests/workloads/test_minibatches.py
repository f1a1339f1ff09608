"""Half a mini-batch, as a mini-batch."""

from collections import namedtuple

import pytest
import torch

from workloads.minibatches import half_of

Pair = namedtuple("Pair", "image label")
X, Y = torch.arange(20.0).reshape(5, 4), torch.arange(5)


@pytest.mark.parametrize(
    "batch", [X, (X, Y), [X, Y], {"x": X, "y": Y, "name": "kept"}, Pair(X, Y), (X, {"deep": (Y, torch.tensor(3.0))})]
)
def test_the_first_half_rounded_down(batch):
    half = half_of(batch)
    assert type(half) is type(batch)
    given = half if isinstance(half, torch.Tensor) else next(iter(half.values() if isinstance(half, dict) else half))
    assert torch.equal(given, X[:2])
    if isinstance(batch, Pair):
        assert torch.equal(half.label, Y[:2])
    if isinstance(batch, dict):
        assert half["name"] == "kept"


def test_scalars_stay():
    assert half_of((X, torch.tensor(3.0)))[1] == 3.0


@pytest.mark.parametrize("batch", [(), "text", torch.tensor(1.0), X[:1], (X, Y[:3]), {"x": X, "w": torch.ones(4)}])
def test_what_has_no_half(batch):
    assert half_of(batch) is None
