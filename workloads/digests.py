"""Fingerprints of weights and data, so that a result file says what it was measured on."""

import contextlib
import hashlib
import pickle
from collections.abc import Mapping
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def _update(hasher: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
        hasher.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        hasher.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
    elif isinstance(value, np.ndarray):
        hasher.update(f"{value.dtype}{value.shape}".encode())
        hasher.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key in value:
            hasher.update(repr(key).encode())
            _update(hasher, value[key])
    elif isinstance(value, tuple | list):
        hasher.update(f"{len(value)}".encode())
        for entry in value:
            _update(hasher, entry)
    elif isinstance(value, bool | int | float | complex | str | bytes | NoneType):
        hasher.update(repr(value).encode())
    elif getattr(value, "__dict__", None):
        hasher.update(type(value).__qualname__.encode())
        _update(hasher, vars(value))
    else:
        hasher.update(_pickled(value))


def _pickled(value: Any) -> bytes:
    """An object's pickle, since a repr may leave out most of what it holds; its repr where it has none."""
    with contextlib.suppress(Exception):  # whatever an object's own code raises
        return pickle.dumps(value)
    return repr(value).encode()


def digest(value: Any) -> str:
    """SHA-256 of tensors, arrays, plain values, and tuples, lists, mappings and objects with attributes of them; of
    others by their pickle."""
    hasher = hashlib.sha256()
    _update(hasher, value)
    return hasher.hexdigest()


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers with their names."""
    return digest({name: value for name, value in sorted(model.state_dict().items()) if isinstance(value, Tensor)})
