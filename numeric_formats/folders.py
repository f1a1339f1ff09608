"""Where the user's files are looked for and kept: one rule for the cache, and one for data.

Source: XDG Base Directory Specification, version 0.8 ("All paths set in these environment variables must be absolute.
If an implementation encounters a relative path [...] it should consider the path invalid and ignore it").
"""

import os
from pathlib import Path

CACHE_VARIABLE, DATA_VARIABLE = "FORMATS_CACHE", "FORMATS_DATA"


def _named(variable: str) -> Path | None:
    """The folder that an environment variable names; None where it is unset or empty."""
    return Path(folder) if (folder := os.environ.get(variable)) else None


def cache_folder() -> Path:
    """What can be made or downloaded again is kept here: in $FORMATS_CACHE, else in formats/ of $XDG_CACHE_HOME, else
    in ~/.cache/formats."""
    users = _named("XDG_CACHE_HOME")
    if users is None or not users.is_absolute():
        users = Path.home() / ".cache"
    return _named(CACHE_VARIABLE) or users / "formats"


def data_folders(*usual: Path) -> list[Path]:
    """Where data sets are looked for, in this order: $FORMATS_DATA, where it is set, and the usual places of one."""
    named = _named(DATA_VARIABLE)
    return [*usual] if named is None else [named, *usual]
