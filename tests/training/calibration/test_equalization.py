"""Equalization and absorption: what is changed, and that the network computes the same."""

import torch
from torch import nn

from tests.training.calibration import networks
from training.calibration import Network
from training.calibration.equalization import absorb, chains, equalize


class Residual(nn.Module):
    """A block with a branch, whose first layer alone can be equalized with its second."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = (
            nn.Conv2d(1, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
        )
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.norm(self.b(self.a(x).relu()))).relu()
        return self.head(x.mean((2, 3)))


def test_only_what_nothing_else_reads_is_equalized():
    torch.manual_seed(0)
    network, x = Network(Residual().eval()), torch.randn(2, 1, 8, 8)
    assert [chain.name for chain in chains(network)] == ["a -> b"]
    assert network.folded == ["b"]
    before = network.module(x)
    equalize(network)
    assert torch.allclose(network.module(x), before, rtol=0, atol=1e-5)


def test_relu6_keeps_its_function_by_caps():
    model, x = networks.depthwise(nn.ReLU6, 1), 20 * torch.randn(4, 3, 8, 8)
    network = Network(model)
    before = network.module(x)
    assert (before != Network(networks.depthwise(nn.ReLU, 1)).module(x)).any()
    equalize(network)
    assert (network.module(x) - before).abs().max() < 1e-5 * before.abs().max()
    assert Network(model).replace_relu6() == 2


def test_flattened_channels_and_transposed_convolutions_are_equalized():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.ConvTranspose2d(2, 6, 2, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(), nn.MaxPool2d(2)),
        *(nn.ConvTranspose2d(6, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)),
    )
    model(torch.randn(50, 2, 3, 3))
    model.eval()
    x = torch.randn(6, 2, 3, 3)
    network = Network(model)
    assert torch.allclose(network.module(x), model(x), rtol=0, atol=1e-5)
    assert [chain.name for chain in chains(network)] == ["0 -> 4", "4 -> 7"]
    equalize(network)
    assert torch.allclose(network.module(x), model(x), rtol=0, atol=1e-5)


def test_dead_channels_stay():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    model[0].weight.data[2] = 0
    model[2].weight.data[:, 3] = 0
    network, x = Network(model), torch.randn(9, 4)
    equalize(network)
    assert torch.allclose(network.module(x), model(x), rtol=0, atol=1e-5)


def test_absorption_without_data_takes_three_deviations():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).eval()
    model[1].bias.data = torch.tensor([4.0, 2.0, -1.0, 3.5, 0.0])
    (amount,) = absorb(Network(model)).values()
    assert amount.tolist() == [1.0, 0.0, 0.0, 0.5, 0.0]
