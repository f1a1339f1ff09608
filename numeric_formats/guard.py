"""Refusals at the first import: of systems other than Linux, and of folders in a user's project with our packages'
names."""

import importlib.util
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent


def require_linux() -> None:
    """ImportError of one line on any other system."""
    if sys.platform != "linux":
        raise ImportError(f"numeric-formats needs Linux; this is {sys.platform}")


def require(*packages: str) -> None:
    """ImportError that names the folder in the way, unless each package is the one of this distribution."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or [])] if spec else []
        if not places and spec is not None and spec.origin is not None:
            places = [Path(spec.origin).resolve()]
        if HOME / package not in places:
            found = f"{places[0]} is found first" if places else "nothing of that name is found"
            raise ImportError(
                f"numeric-formats needs its own package {package!r}, but {found}: "
                "rename that folder, or run from another one"
            )
