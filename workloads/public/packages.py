"""The packages that public networks come from: extras of this distribution, which fail in ways of their own."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from numeric_formats.messages import one_line


def import_extra(package: str, extra: str) -> ModuleType:
    """A package that an extra brings; ImportError with one line where it is missing, or does not go with the torch
    installed here."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{extra}: networks need the extra {extra} of numeric-formats "
            f"(pip install 'numeric-formats[{extra}]'): {error}"
        ) from error
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"{extra}: networks cannot be had, since {package} fails beside torch {torch.__version__}: "
            f"{one_line(error)}"
        ) from error


def pretrained(network: str, make: Callable[[], Any]) -> Any:
    """What `make` loads from the public place; OSError with one line where that cannot be done."""
    try:
        return make()
    except Exception as error:  # each package, and each way to its server, has exceptions of its own
        raise OSError(
            f"the public weights of {network} cannot be loaded; --weights takes a local file. "
            f"Reason: {one_line(error)[:200]}"
        ) from error
