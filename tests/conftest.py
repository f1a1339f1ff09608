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
