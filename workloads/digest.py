"""Fingerprints of weights and data, so that a result file says what it was measured on."""

import hashlib
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
    elif isinstance(value, dict):
        for key in value:
            hasher.update(repr(key).encode())
            _update(hasher, value[key])
    elif isinstance(value, tuple | list):
        hasher.update(f"{len(value)}".encode())
        for entry in value:
            _update(hasher, entry)
    else:
        hasher.update(repr(value).encode())


def digest(value: Any) -> str:
    """SHA-256 of tensors, arrays, plain values, and tuples, lists and dicts of them."""
    hasher = hashlib.sha256()
    _update(hasher, value)
    return hasher.hexdigest()


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers with their names."""
    return digest({name: value for name, value in sorted(model.state_dict().items()) if isinstance(value, Tensor)})
