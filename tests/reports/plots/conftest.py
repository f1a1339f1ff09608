"""Figures that a test has looked at are closed: matplotlib keeps them, and complains of more than twenty."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")
