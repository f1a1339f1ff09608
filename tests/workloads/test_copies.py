"""Copies of networks."""

import warnings

import torch
from torch import nn

from workloads.copies import copied


def _swish(x):
    return x * torch.sigmoid(x)


with warnings.catch_warnings(action="ignore"):  # torch would rather have something else
    swish = torch.jit.script(_swish)


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act = nn.Linear(3, 3), swish

    def forward(self, x):
        return self.act(self.a(x))


def test_a_network_that_holds_a_scripted_function():
    network = Scripted()
    x, made = torch.randn(2, 3), copied(network)
    assert torch.equal(made(x), network(x))
    with torch.no_grad():
        made.a.weight.zero_()
    assert network.a.weight.any()
