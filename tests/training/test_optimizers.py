"""Learning-rate schedules; the optimizer's own arithmetic is in test_weights.py."""

import numpy as np
import pytest
from torch import nn

from tests.training import small
from tests.training.small import FULL
from training import train
from training.optimizers import usual


def test_schedules():
    def rates(**options):
        return train(small.workload(), epochs=1, **FULL, **options).steps.rate.to_numpy()

    assert rates(schedule="steps", rate=1e-3) == pytest.approx([1e-3] * 4 + [1e-4] * 2 + [1e-5] * 2)
    assert rates(schedule="constant", rate=1e-3, warmup=3) == pytest.approx([2.5e-4, 5e-4, 7.5e-4] + [1e-3] * 5)
    cosine = 1e-3 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    assert rates(schedule="cosine", rate=1e-3) == pytest.approx(cosine)


def test_what_is_usual():
    plain, attends = nn.Sequential(nn.Linear(4, 4)), nn.TransformerEncoderLayer(4, 2, 8)
    assert usual(plain, None, None) == ("sgd", 0.1)
    assert usual(attends, None, None) == ("adamw", 1e-3)
    assert usual(attends, "sgd", None) == ("sgd", 0.1)
    assert usual(plain, "adamw", 0.5) == ("adamw", 0.5)
    with pytest.raises(ValueError, match="optimizer 'adam'"):
        usual(plain, "adam", None)
