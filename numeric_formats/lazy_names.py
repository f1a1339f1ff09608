"""Names that a package offers and loads once they are asked for."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def later(package: str, held_by: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`, for modules that take longer to load than short commands run.

    Args:
        package: Its `__name__`.
        held_by: The module that holds each name.
    """

    def get(name: str) -> Any:
        if name in held_by:
            return getattr(import_module(held_by[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
