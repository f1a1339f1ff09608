"""Where compiled functions are kept."""

import os
import shutil

import pytest
from numba import config

from formats.kernel.caching import kept, kept_njit
from tests.processes import ROOT, python


@pytest.fixture
def tried(monkeypatch, tmp_path):
    monkeypatch.setenv("FORMATS_CACHE", str(tmp_path / "cache"))
    return []


def test_it_is_kept_where_numba_keeps_it(tried):
    before = config.CACHE_DIR
    assert kept(lambda keep: tried.append((keep, config.CACHE_DIR)) or "made") == "made"
    assert tried == [(True, before)]


def test_else_in_the_cache_folder(tried, tmp_path):
    def compiled(keep):
        tried.append((keep, config.CACHE_DIR))
        if len(tried) == 1:
            raise RuntimeError("cannot cache function: no locator available")
        return "made"

    before = config.CACHE_DIR
    assert kept(compiled) == "made"
    assert tried == [(True, before), (True, str(tmp_path / "cache" / "numba"))]
    assert before == config.CACHE_DIR


@pytest.mark.parametrize("error", [RuntimeError("no locator available"), PermissionError("no"), OSError("full")])
def test_else_nowhere(tried, error):
    def compiled(keep):
        tried.append(keep)
        if keep:
            raise RuntimeError("no locator available") if len(tried) == 1 else error
        return "made"

    before = config.CACHE_DIR
    assert kept(compiled) == "made"
    assert tried == [True, True, False]
    assert before == config.CACHE_DIR


def test_a_user_without_a_home(tried, monkeypatch):
    monkeypatch.delenv("FORMATS_CACHE")
    monkeypatch.setattr("numeric_formats.folders.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))

    def compiled(keep):
        if keep:
            raise RuntimeError("no locator available")
        return "made"

    assert kept(compiled) == "made"


@kept_njit(fastmath={"contract"})
def _twice(x):
    return 2 * x


def test_a_function_is_compiled_with_its_options():
    assert _twice(3.5) == 7.0
    assert _twice.targetoptions["fastmath"] == {"contract"}
    assert _twice.targetoptions["nogil"]


ROUNDING = "import formats; print(formats.__file__, formats.get('FP134').round(1.3))"
SUMS = """
import numpy as np, formats, formats.kernel.accumulate
from formats.kernel.sums import _sums
print(formats.__file__, _sums(np.float32([2]), np.float32([3]))[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cache", "code", "value"), [("cache", ROUNDING, 1.3125), ("file/cache", SUMS, -3.0)], ids=["ours", "none"]
)
def test_an_installation_that_cannot_be_written(tmp_path, cache, code, value):
    """Neither beside the source, as a file stands where numba's folder would be, nor in a home."""
    for name in ("numeric_formats", "formats"):
        shutil.copytree(ROOT / name, tmp_path / "site" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, _, _ in os.walk(tmp_path / "site"):
        (tmp_path / "site" / folder / "__pycache__").touch()
    file = tmp_path / "file"
    file.touch()
    nowhere = {"HOME": file, "XDG_CACHE_HOME": file, "PYTHONDONTWRITEBYTECODE": 1}
    done = python("-c", code, cwd=tmp_path, PYTHONPATH=tmp_path / "site", FORMATS_CACHE=tmp_path / cache, **nowhere)
    place, found = done.stdout.split()
    assert place == str(tmp_path / "site" / "formats" / "__init__.py")
    assert float(found) == value
    assert bool(list(tmp_path.glob("cache/numba/*/*.nbi"))) == (cache == "cache")
