"""Learning-rate schedules; the optimizer's own arithmetic is in test_weights.py."""

import numpy as np
import pytest

from tests.training import small
from tests.training.small import FULL
from training import train


def test_schedules():
    def rates(**options):
        return train(small.workload(), epochs=1, **FULL, **options).steps.rate.to_numpy()

    assert rates(schedule="steps", rate=1e-3) == pytest.approx([1e-3] * 4 + [1e-4] * 2 + [1e-5] * 2)
    assert rates(schedule="constant", rate=1e-3, warmup=3) == pytest.approx([2.5e-4, 5e-4, 7.5e-4] + [1e-3] * 5)
    cosine = 1e-3 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    assert rates(schedule="cosine", rate=1e-3) == pytest.approx(cosine)
