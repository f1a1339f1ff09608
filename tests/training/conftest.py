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
    """A training of the digits' network in full precision; at least 98.1%."""
    return _trained(False)


@pytest.fixture(scope="session")
def trained_smooth():
    """The same with SiLU."""
    return _trained(True)


def _trained(smooth):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = train(digits.workload(smooth), **digits.SCRATCH, **digits.FULL)
    torch.set_num_threads(threads)
    assert found.metric >= 0.981
    return found
