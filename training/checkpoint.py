"""Checkpoints: one safetensors file with everything that decides how a run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from numeric_formats.files import write_atomically
from numeric_formats.messages import one_line
from workloads.digests import digest

NAME = "checkpoint.safetensors"
OPTIMIZER = "optimizer."
STATE = "state"
"""Of the file's metadata, the only one, as several have no order: the checksum, and after a space the state as JSON."""
REMEDY = "remove it or start with --force"


def write(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and plain values; whoever reads sees the old checkpoint or the new one, never part of one."""
    # Copies of their own and without strides, as safetensors wants them.
    own = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    text = json.dumps(state)
    write_atomically(path, save(own, metadata={STATE: f"{_checksum(own, text)} {text}"}))


def read(path: Path, remedy: str = REMEDY) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` wrote. ValueError that ends in the remedy where the file is cut short, is something else or is not
    as it was written; OSError where there is none."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        recorded, _, text = metadata[STATE].partition(" ")
    except OSError:
        raise
    except Exception as error:  # a damaged header may ask torch for anything
        raise ValueError(f"{path} is cut short or no checkpoint ({one_line(error)}); {remedy}") from None
    if recorded != _checksum(tensors, text):
        raise ValueError(f"{path} is damaged: it is not what was written; {remedy}")
    state: dict[str, Any] = json.loads(text)
    return tensors, state


def _checksum(tensors: Mapping[str, Tensor], state: str) -> str:
    """SHA-256 of names, types, shapes and bytes of all tensors, and of the state."""
    return digest((state, sorted(tensors.items())))


@contextmanager
def restoring(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Where values of a file do not fit what goes on from it, whatever that raises inside is a ValueError of one line
    that names the file."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, ValueError) and str(path.parent) in str(error):
            raise
        raise ValueError(
            f"{path} does not hold what goes on here ({type(error).__name__}: {one_line(error)}); {remedy}"
        ) from error


def check_kind(path: Path, what: str, own: Any, saved: Any) -> None:
    """ValueError unless a value of a file is of the kind of our own: mappings with the same keys, sequences as long,
    finite numbers, the same type of anything else."""
    if isinstance(own, Mapping):
        fits = isinstance(saved, Mapping) and saved.keys() == own.keys()
        for key in own if fits else ():
            check_kind(path, f"{what} {key}", own[key], saved[key])
    elif isinstance(own, Sequence) and not isinstance(own, str):
        fits = isinstance(saved, Sequence) and not isinstance(saved, str) and len(saved) == len(own)
        for entry, other in zip(own, saved, strict=True) if fits else ():
            check_kind(path, what, entry, other)
    elif isinstance(own, int | float) and not isinstance(own, bool):
        fits = isinstance(saved, int | float) and not isinstance(saved, bool) and math.isfinite(saved)
    else:
        fits = type(saved) is type(own)
    if not fits:
        raise ValueError(f"{path}: {what} is {str(saved)[:60]!r}, which is not what this run writes; {REMEDY}")


def fill(target: dict[str, Tensor], saved: dict[str, Tensor], prefix: str, path: Path) -> None:
    """Copy saved tensors into those of the same name, which keep their memory and strides.

    Raises ValueError where a name is missing or a shape or dtype differs.
    """
    for name, tensor in target.items():
        found = saved.get(prefix + name)
        if found is None or found.shape != tensor.shape or found.dtype != tensor.dtype:
            given = "is missing" if found is None else f"has shape {tuple(found.shape)} and type {found.dtype}"
            raise ValueError(f"{path}: {prefix}{name} {given}; the network needs {tuple(tensor.shape)}, {tensor.dtype}")
        tensor.data.copy_(found)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of an optimizer's state by number of the parameter and name."""
    state = optimizer.state_dict()["state"]
    return {f"{OPTIMIZER}{number}.{key}": value for number, entries in state.items() for key, value in entries.items()}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, saved: dict[str, Tensor], groups: list[dict[str, Any]], path: Path
) -> None:
    """Put `optimizer_tensors` and the numbers of the parameter groups back; ValueError where they do not fit."""
    check_kind(path, "groups", optimizer.state_dict()["param_groups"], groups)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        if name.startswith(OPTIMIZER):
            number, key = name.removeprefix(OPTIMIZER).split(".", 1)
            state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
