"""Checkpoints: one safetensors file with everything that decides how a run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from numeric_formats.files import write_atomically

NAME = "checkpoint.safetensors"
OPTIMIZER = "optimizer."


def write(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and plain values; whoever reads sees the old checkpoint or the new one, never part of one."""
    # Copies of their own and without strides, as safetensors wants them.
    own = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    content = save(own, metadata={"state": json.dumps(state)})
    write_atomically(path, content)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` wrote. Raises ValueError where the file is cut short or is something else."""
    try:
        with safe_open(path, "pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118 (no dictionary)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is cut short or no checkpoint of `train` ({error}); remove it or start with --force"
        ) from None


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


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    """Put `optimizer_tensors` and the numbers of the parameter groups back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        if name.startswith(OPTIMIZER):
            number, key = name.removeprefix(OPTIMIZER).split(".", 1)
            state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
