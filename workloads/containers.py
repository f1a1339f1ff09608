"""The tensors in what a network is given and gives back, whatever holds them.

Containers are mappings (dict, OrderedDict, UserDict, defaultdict, mappingproxy, transformers' ModelOutput), tuples and
named tuples, lists, deques, data classes, and types.SimpleNamespace, in one another to any depth. Other objects hold
nothing.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

from torch import Tensor


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | deque):
        for entry in value:
            yield from tensors_in(entry)
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from tensors_in(entry)
    elif isinstance(value, SimpleNamespace):
        yield from tensors_in(vars(value))
    elif _is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name, None))


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same nesting, of the same types, with `function` applied to every tensor in it. What is given stays as it
    is."""
    if isinstance(value, Tensor):
        return function(value)
    if not any(True for _ in tensors_in(value)):
        return value
    if isinstance(value, tuple):
        entries = [map_tensors(function, entry) for entry in value]
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    if type(value) is list:
        return [map_tensors(function, entry) for entry in value]
    if type(value) is dict:
        return {key: map_tensors(function, entry) for key, entry in value.items()}
    if isinstance(value, MappingProxyType):
        return MappingProxyType(map_tensors(function, dict(value)))
    # Others keep what else they hold: a default factory, attributes, settings.
    made = copy.copy(value)
    if isinstance(value, list):
        made[:] = [map_tensors(function, entry) for entry in value]
    elif isinstance(value, deque):
        made.clear()
        made.extend(map_tensors(function, entry) for entry in value)
    elif isinstance(value, MutableMapping):
        for key, entry in list(value.items()):
            made[key] = map_tensors(function, entry)
    elif isinstance(value, Mapping):
        raise TypeError(f"a {type(value).__name__} holds tensors and cannot be changed; give a dict")
    elif isinstance(value, SimpleNamespace):
        for key, entry in vars(value).items():
            setattr(made, key, map_tensors(function, entry))
    else:
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                # Past a frozen data class's guard, since `made` is ours.
                object.__setattr__(made, field.name, map_tensors(function, getattr(value, field.name)))
    return made
