"""Ranges without data, and of percentiles."""

import pytest
import torch

from training.calibration.grids import Affine
from training.calibration.ranges import find_range, normalized_range, percentile_range


def test_ranges_without_data_and_of_percentiles():
    gamma, beta = torch.tensor([0.5, -1.0]), torch.tensor([1.0, 0.5])
    found = [normalized_range(gamma, beta, kind) for kind in ("none", "relu", "relu6")]
    assert [(each.low.item(), each.high.item()) for each in found] == [(-5.5, 6.5), (0.0, 6.5), (0.0, 6.0)]
    assert normalized_range(gamma, beta, per_channel=True).low.tolist() == [-2.0, -5.5]
    x = torch.arange(10001.0)
    one, two = percentile_range([x], 99), percentile_range([x - 5000], 99)
    assert (one.low.item(), one.high.item()) == (0.0, 9900.0)
    assert (two.low.item(), two.high.item()) == (-4950.0, 4950.0)
    with pytest.raises(ValueError, match="finite numbers are needed"):
        find_range(torch.tensor([1.0, torch.nan]), Affine(8))
