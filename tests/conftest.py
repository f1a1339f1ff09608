"""What all tests share."""

import signal

import pytest

# A shell's background job ignores Ctrl-C, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """No test, and no command that one starts, reads or writes the user's store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORMATS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(items):
    """Files with slow tests first, so that what is left for the end is small and two processes end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
