"""From a name on the command line to a workload."""

import difflib
import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import FunctionType, ModuleType
from urllib.parse import quote, unquote

from numeric_formats.user_file import located, run_file
from workloads.bundled.networks import BUNDLED
from workloads.workload import Workload

PUBLIC = ("torchvision", "timm", "hf")
PUBLIC_NAMES = ", ".join(f"{package}:NAME" for package in PUBLIC)


def load(name: str, data: str | None = None, weights: Path | str | None = None) -> Workload:
    """The workload of a name.

    Args:
        name: a bundled workload's, such as `resnet18`; a public network as `torchvision:NAME`, `timm:NAME` or
            `hf:NAME`; or a user's own as `package.module:function` or `file.py:function`, a function that takes no
            arguments and returns a Workload. A public name with data and weights is written
            `NAME?data=DATA&weights=WEIGHTS`, special characters as in an address.
        data: of a public network, which needs it: `imagefolder:PATH`, `cifar10[:PATH]` or `cifar100[:PATH]` for images,
            `text[@LENGTH]:PATH` or `tokens[@LENGTH]:FILE` for language models, `pairs[@LENGTH]:PATH` for encoders.
        weights: of a public network: a local file (of a language model also a folder), by default the public ones.

    Returns:
        The workload, on the CPU; its `source` is a name that finds it again.

    Raises:
        ValueError: for an unknown name, or a place that does not hold such a function.
        TypeError: where the function returns something else.
        ImportError: where a package is missing.
        OSError: where data or weights cannot be had.
    """
    if name.partition(":")[0] in PUBLIC:
        return _public(name, data, weights)
    if data is not None or weights is not None:
        raise ValueError(f"--data and --weights are for {PUBLIC_NAMES}; {name} has its own")
    if name in BUNDLED:
        return replace(BUNDLED[name](), source=name)
    place, colon, function = name.rpartition(":")
    if not (colon and place):
        near = difflib.get_close_matches(name, BUNDLED, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"unknown model {name!r}; {hint}Bundled: {', '.join(BUNDLED)}; public: {PUBLIC_NAMES}; "
            "your own: package.module:function or file.py:function"
        )
    make = _function(place, function)
    with located(Path(make.__code__.co_filename)) if isinstance(make, FunctionType) else nullcontext():
        workload = make()
    if not isinstance(workload, Workload):
        raise TypeError(
            f"{name} returned {type(workload).__name__}; a function that returns a workloads.Workload is needed"
        )
    # A file is named in full, so that it is found from another folder too.
    source = f"{Path(place).resolve()}:{function}" if place.endswith(".py") else name
    return replace(workload, source=source)


def _public(given: str, data: str | None, weights: Path | str | None) -> Workload:
    network, _, query = given.partition("?")
    parts = dict(part.partition("=")[::2] for part in query.split("&") if part)
    if wrong := [part for part in parts if part not in ("data", "weights")]:
        raise ValueError(f"{given}: {wrong[0]} is not data or weights")
    data = unquote(parts["data"]) if data is None and "data" in parts else data
    weights = unquote(parts["weights"]) if weights is None and "weights" in parts else weights
    package, _, name = network.partition(":")
    if data is None:
        raise ValueError(
            f"{network} needs --data: imagefolder:PATH, cifar10[:PATH] or cifar100[:PATH] for images, "
            "text[@LENGTH]:PATH or tokens[@LENGTH]:FILE for language models, pairs[@LENGTH]:PATH for encoders"
        )
    # Places are named in full, so that they are found from another folder too.
    kind, colon, place = data.partition(":")
    data = f"{kind}:{Path(place).expanduser().resolve()}" if place else kind + colon
    file = None if weights is None else Path(weights).expanduser().resolve()
    # Only here, since it reads pictures, archives and pickles, which nothing else needs.
    if package == "hf":
        from workloads.public.language_models import language_model

        made = language_model(name, data, file)
    else:
        from workloads.public.classifiers import classifier

        made = classifier(package, name, data, file)
    kept = "" if file is None else f"&weights={quote(str(file))}"
    return replace(made, source=f"{network}?data={quote(data, safe='/:')}{kept}")


def _function(place: str, name: str) -> Callable[[], object]:
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    function = getattr(module, name, None)
    if not callable(function):
        theirs = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        ]
        has = f"; it defines {', '.join(theirs)}" if theirs else ""
        raise ValueError(f"{place} has no function {name!r}{has}")
    return function


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    # What lies beside the file can be imported from it, but never instead of anything installed.
    _search_last(path.resolve().parent)
    return run_file(path, f"workload_file_{path.stem}")


def _module(name: str) -> ModuleType:
    _search_last(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"cannot import {name}: {error}") from error


def _search_last(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
