"""A rounding function of the caller's, by the name of its module."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from formats.conformance.subject import Rounds, Subject, claimed
from numeric_formats.messages import first_line


def subject_of(target: str, as_format: str | None) -> Subject:
    """The function `package.module:function`; ValueError where there is none, or no format that it claims."""
    if as_format is None:
        raise ValueError(f"{target}: which format does it claim to round to? as_format is needed, such as E4M3")
    return Subject(target, claimed(as_format), _find(target))


def _find(target: str) -> Rounds:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ValueError(f"{target!r} does not read as package.module:function")
    # A console script does not have the current directory on its path, where a user's module most likely is.
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{target}: {first_line(error)}") from error
    except Exception as error:
        raise ValueError(
            f"{target}: importing {module_name} raised {type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        sys.path.remove(here)
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise ValueError(f"{target}: {module_name} has no function {name}")
    return function
