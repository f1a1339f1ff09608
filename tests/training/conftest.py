"""Networks that methods and calibration start from."""

import pytest
import torch

from tests.training import digits
from training import train


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks are quickest on one thread, and only on as many do runs have the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained():
    """Trainings of the digits' network in full precision, one for each seed; at least 98.1%."""
    return _trained(False)


@pytest.fixture(scope="session")
def trained_smooth():
    """The same with SiLU."""
    return _trained(True)


def _trained(smooth):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = [train(digits.workload(smooth, seed), **digits.SCRATCH, **digits.FULL, seed=seed) for seed in digits.SEEDS]
    torch.set_num_threads(threads)
    assert all(one.metric >= 0.981 for one in found)
    return found
