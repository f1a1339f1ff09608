"""The version of this distribution, and those of the packages that a result was made with."""

import platform

NAME = "numeric-formats"
VERSION = "0.1.0"
"""Read by pyproject.toml."""


def versions_of(*packages: str) -> dict[str, str]:
    """The versions of Python and of distributions by name; "not installed" for those that are not."""
    # Only here: it takes longer to import than the rest of this floor together.
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in packages:
        try:
            # Of ours, what runs: an installation may be of another folder, or there may be none.
            found[package] = VERSION if package == NAME else version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
