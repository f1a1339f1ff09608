"""What all tests share."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """No test, and no command that one starts, reads or writes the user's store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORMATS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
