"""What tests of this folder share."""

import pytest
import torch

from predictor.measuring.store import FILE


@pytest.fixture(scope="module")
def one_thread():
    """Torch in one thread: quicker for small networks, and equal to workers of one thread bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def path(tmp_path):
    """A store's file, in a folder that is not there yet."""
    return tmp_path / "deep" / FILE
