"""Compiled functions that numba keeps in files, in a folder that can be written."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import config, njit

from numeric_formats.folders import cache_folder

T = TypeVar("T")


def kept(compiled: Callable[[bool], T]) -> T:
    """What a function compiles, told whether numba is to keep it.

    numba keeps it beside the source or in the user's cache folder; where it can write neither, as in a read-only
    installation without a home, it is kept in the cache folder of formats, and where that cannot be written, not at
    all.
    """
    try:
        return compiled(True)
    except RuntimeError:  # no locator available
        before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(cache_folder() / "numba")
        return compiled(True)
    except (RuntimeError, OSError):
        return compiled(False)
    finally:
        config.CACHE_DIR = before


def kept_njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's `njit` without the interpreter's lock, kept."""
    return lambda function: kept(lambda keep: njit(nogil=True, cache=keep, **options)(function))
