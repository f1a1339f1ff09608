"""From a name on the command line to a workload."""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from workloads.bundled import BUNDLED
from workloads.workload import Workload


def load(name: str) -> Workload:
    """A bundled workload by name, or a user's own as `package.module:function` or `file.py:function`.

    The function takes no arguments and returns a Workload. Raises ValueError for an unknown name or a place that does not
    hold such a function, TypeError where it returns something else.
    """
    if name in BUNDLED:
        return replace(BUNDLED[name](), source=name)
    place, colon, function = name.rpartition(":")
    if not colon:
        near = difflib.get_close_matches(name, BUNDLED, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"unknown model {name!r}; {hint}Bundled: {', '.join(BUNDLED)}; your own: package.module:function or file.py:function"
        )
    workload = _function(place, function)()
    if not isinstance(workload, Workload):
        raise TypeError(f"{name} returned {type(workload).__name__}; a function that returns a workloads.Workload is needed")
    # A file is named in full, so that it is found from another folder too.
    source = f"{Path(place).resolve()}:{function}" if place.endswith(".py") else name
    return replace(workload, source=source)


def _function(place: str, name: str) -> Callable[[], object]:
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    function = getattr(module, name, None)
    if not callable(function):
        theirs = [key for key, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == module.__name__]
        has = f"; it defines {', '.join(theirs)}" if theirs else ""
        raise ValueError(f"{place} has no function {name!r}{has}")
    return function


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    # What lies beside the file can be imported from it, but never instead of anything installed.
    _search_last(path.resolve().parent)
    name = f"workload_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    _search_last(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"cannot import {name}: {error}") from error


def _search_last(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
