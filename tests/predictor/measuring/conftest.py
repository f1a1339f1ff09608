"""What tests of this folder share."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """Torch in one thread: quicker for small networks, and equal to workers of one thread bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
