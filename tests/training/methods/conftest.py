"""Methods are tested on one thread, which small networks are quickest on."""

import pytest


@pytest.fixture(autouse=True)
def on_one_thread(one_thread):
    return one_thread
