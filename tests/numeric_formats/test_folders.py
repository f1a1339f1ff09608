"""Where the cache and data sets are, from the environment alone."""

from pathlib import Path

import pytest

from numeric_formats.folders import cache_folder, data_folders

HOME = Path("/home/someone")


@pytest.mark.parametrize(
    ("ours", "users", "folder"),
    [
        (None, None, HOME / ".cache/formats"),
        (None, "", HOME / ".cache/formats"),  # empty is unset
        (None, "caches", HOME / ".cache/formats"),  # relative is invalid
        (None, "/caches", Path("/caches/formats")),
        ("", "/caches", Path("/caches/formats")),
        ("/scratch/mine", "/caches", Path("/scratch/mine")),
        ("mine", None, Path("mine")),
    ],
)
def test_the_cache(monkeypatch, ours, users, folder):
    monkeypatch.setenv("HOME", str(HOME))
    for name, value in (("FORMATS_CACHE", ours), ("XDG_CACHE_HOME", users)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_folder() == folder


def test_data_is_looked_for_where_the_user_says_first(monkeypatch):
    usual = Path("/usr/share/datasets")
    monkeypatch.delenv("FORMATS_DATA", raising=False)
    assert data_folders(usual) == [usual]
    monkeypatch.setenv("FORMATS_DATA", "")
    assert data_folders(usual) == [usual]
    monkeypatch.setenv("FORMATS_DATA", "/data")
    assert data_folders(usual) == [Path("/data"), usual]
    assert data_folders() == [Path("/data")]
