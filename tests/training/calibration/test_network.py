"""Networks that cannot be traced, or have nothing to quantize."""

import pytest
from torch import nn

from training.calibration import Network


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_is_refused_by_the_name_of_the_module():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Branching()))
    with pytest.raises(ValueError, match=r"^module 1\.0 \(Branching\) cannot be traced by torch\.fx: [^\n]*$"):
        Network(model)
    with pytest.raises(ValueError, match="no convolution or linear module"):
        Network(nn.ReLU())
