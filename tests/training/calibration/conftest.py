"""The workload that calibration is tried on."""

import pytest

from tests.training.calibration import networks


@pytest.fixture(scope="session")
def workload():
    """A small one, trained for a second's fraction; nothing that is tested changes it."""
    return networks.trained()
