"""Networks that methods start from."""

import pytest
import torch

from tests.training import digits
from training import train

EPOCHS = 6


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained():
    """The network of the digits, trained in full precision; at least 98%."""
    return _trained(False)


@pytest.fixture(scope="session")
def trained_smooth():
    """The same with SiLU."""
    return _trained(True)


def _trained(smooth):
    torch.set_num_threads(1)
    found = train(digits.workload(smooth), **{**digits.SCRATCH, "epochs": EPOCHS}, **digits.FULL)
    assert found.metric >= 0.98
    return found.model
