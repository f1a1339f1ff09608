"""What a layer is called by."""

import pytest
import torch
from torch import nn

from predictor.flow.layers import module_of


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile
def test_a_layer_is_its_class_and_says_how_a_convolution_is_grouped():
    shared = nn.ReLU()
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 8, 1),
        nn.Conv2d(8, 8, 3, groups=2),
        shared,
        nn.BatchNorm2d(8),
        shared,
    )
    expected = ["Conv2d depthwise", "Conv2d", "Conv2d 2 groups", "ReLU", "BatchNorm2d", "ReLU"]
    assert [module_of(model, str(place)) for place in range(6)] == expected
    assert module_of(torch.compile(model), "0") == "Conv2d depthwise"
    # The network itself, outside its layers, and all of them.
    assert [module_of(model, name) for name in ("", "(network)", "all")] == ["", "", ""]
