"""Fingerprints of code: what a loss or a network computes, beside its weights. What else decides whether a kept
measurement is valid: predictor/measuring/validity.py.

Two functions get one fingerprint only if their compiled code is equal, with the constants, defaults, closures and
global names that it uses, and so on for every function, class and object that they lead to. Not seen: compiled
extensions and what a module reached by attribute imports in its turn (the file of `helper` in `helper.f` counts, the
files that it imports do not), names that are looked up in strings, the environment, files that code reads, the state of
objects of compiled types, and the inside of the standard library, torch and numpy: of these the names count. Of a
package in AS_A_WHOLE all files count.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workloads.digests import digest

NAMED_ONLY = sys.stdlib_module_names | {"torch", "numpy"}
"""Top-level modules whose code a version number stands for."""
AS_A_WHOLE = {"transformers"}
"""Packages of which all source counts, whatever is used of it: everything in them leads to everything, also to what
each process draws anew, as the number of a session."""
PLAIN = (
    *(bool, int, float, complex, str, bytes, Enum, range, slice, type(None), type(Ellipsis)),
    *(np.generic, torch.dtype, torch.device, torch.Size, torch.memory_format),
)
"""Types whose repr says all."""
OF_CLASSES = (*PLAIN, FunctionType, staticmethod, classmethod, property, tuple, list, dict, set, frozenset, Tensor)
"""Types of class attributes that count."""
NOT_OF_CLASSES = {
    "__doc__",
    "__firstlineno__",
    "__annotations__",
    "__dataclass_fields__",
    "__abstractmethods__",
    "__parameters__",
}
_OF_ONE_PROCESS = {"_original_object_hash"}
"""Attributes that hold what Python's hash of strings gives, which differs between processes (transformers'
GenerationConfig)."""
_CHANGES_BY_ITSELF = {"training"}
"""Attributes of a torch module that a measurement sets itself."""


def code_digest(value: Any, known: Iterable[Tensor] = ()) -> str:
    """SHA-256 of a function's or an object's code and of all that it leads to; equal in every process. known: tensors
    whose values do not count."""
    return _Reader(known).read(value)


def _named_only(module: str) -> bool:
    return module.partition(".")[0] in NAMED_ONLY


@functools.cache
def _package_digest(name: str) -> str:
    """Of all Python files of a package that is loaded."""
    hasher, folder = hashlib.sha256(), Path(str(sys.modules[name].__file__)).parent
    for file in sorted(folder.rglob("*.py")):
        hasher.update(repr((str(file.relative_to(folder)), hashlib.sha256(file.read_bytes()).digest())).encode())
    return hasher.hexdigest()


def _whole(module: str | None) -> str | None:
    """The digest of the package that a module is in, where that counts as a whole."""
    top = (module or "").partition(".")[0]
    return _package_digest(top) if top in AS_A_WHOLE and top in sys.modules else None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class _Reader:
    """Walks from one value to all that it leads to. Every object is described once, by parts that are plain or numbers
    of other objects."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self._known = {id(tensor): tensor for tensor in known}
        self._numbers: dict[int, int] = {}
        self._found: list[Any] = []  # keeps what was found alive, so that ids stay its own

    def read(self, value: Any) -> str:
        hasher = hashlib.sha256(repr(self._number(value)).encode())
        for found in self._found:  # which grows on the way
            hasher.update(repr(self._describe(found)).encode())
        return hasher.hexdigest()

    def _number(self, value: Any) -> Any:
        """A plain value itself, or the number of an object that is going to be described."""
        if isinstance(value, PLAIN):
            return type(value).__qualname__, repr(value)
        number = self._numbers.setdefault(id(value), len(self._found))
        if number == len(self._found):
            self._found.append(value)
        return number

    def _all(self, values: Any) -> list[Any]:
        return [self._number(value) for value in values]

    def _pairs(self, values: Mapping[Any, Any]) -> list[Any]:
        return [(self._number(key), self._number(value)) for key, value in values.items()]

    def _describe(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            content = "" if id(value) in self._known else digest(value)
            return "tensor", content, value.shape, value.stride(), value.requires_grad
        if isinstance(value, np.ndarray):
            return "array", digest(value)
        if isinstance(value, dict):
            return "dict", type(value).__qualname__, self._pairs(value)
        if isinstance(value, tuple | list):
            return "list", type(value).__qualname__, self._all(value)
        if isinstance(value, set | frozenset):
            return "set", sorted(
                repr(entry) if isinstance(entry, PLAIN) else type(entry).__qualname__ for entry in value
            )
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return "method", self._number(value.__func__), self._number(value.__self__)
        if isinstance(value, functools.partial):
            return "partial", self._number(value.func), self._number(value.args), self._number(value.keywords)
        if isinstance(value, staticmethod | classmethod):
            return type(value).__name__, self._number(value.__func__)
        if isinstance(value, property):
            return "property", self._all((value.fget, value.fset))
        if isinstance(value, ModuleType):
            return self._module(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, BuiltinFunctionType):
            return "builtin", value.__module__, value.__qualname__
        if isinstance(value, nn.Module):
            return self._network(value)
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None:
            return "wrapper", self._number(type(value)), self._number(wrapped)
        own = getattr(value, "__dict__", None)
        if own is not None:
            own = {name: part for name, part in own.items() if name not in _OF_ONE_PROCESS}
        return "object", self._number(type(value)), self._number(own)

    def _code(self, code: CodeType) -> Any:
        return (
            "code",
            code.co_code,
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
            self._all(code.co_consts),
        )

    def _function(self, function: FunctionType) -> Any:
        name = function.__module__, function.__qualname__
        if _named_only(function.__module__ or ""):
            return "function", name
        cells = []
        for cell in function.__closure__ or ():
            try:
                cells.append(self._number(cell.cell_contents))
            except ValueError:  # a name that is not bound yet
                cells.append("empty")
        if (package := _whole(function.__module__)) is not None:
            return "function", name, package, cells
        names = dict.fromkeys(name for code in _codes(function.__code__) for name in code.co_names)
        used = {name: function.__globals__[name] for name in names if name in function.__globals__}
        rest = (function.__code__, function.__defaults__, function.__kwdefaults__)
        return "function", name, self._all(rest), cells, self._pairs(used)

    def _class(self, kind: type) -> Any:
        name = kind.__module__, kind.__qualname__
        if _named_only(kind.__module__):
            return "class", name
        own = {
            key: value
            for key, value in vars(kind).items()
            if isinstance(value, OF_CLASSES) and key not in NOT_OF_CLASSES
        }
        if (package := _whole(kind.__module__)) is not None:
            # What somebody else put there is not in the package's source.
            foreign = {
                key: value
                for key, value in own.items()
                if isinstance(value, FunctionType) and _whole(value.__module__) is None
            }
            return "class", name, package, self._pairs(foreign)
        return "class", name, self._all(kind.__bases__), self._pairs(own)

    def _module(self, module: ModuleType) -> Any:
        file = getattr(module, "__file__", None)
        if _named_only(module.__name__) or file is None or not Path(file).is_file():
            return "module", module.__name__
        if (package := _whole(module.__name__)) is not None:
            return "module", module.__name__, package
        return "module", module.__name__, hashlib.sha256(Path(file).read_bytes()).hexdigest()

    def _network(self, module: nn.Module) -> Any:
        # Keys of hooks count up in each process.
        rest = {
            name: list(value.values()) if name.endswith("_hooks") and isinstance(value, dict) else value
            for name, value in vars(module).items()
            if name not in _CHANGES_BY_ITSELF
        }
        return "network", self._number(type(module)), self._pairs(rest)
