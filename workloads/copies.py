"""Copies of networks, also of those that hold tensors which autograd made in their last forward pass."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from workloads.containers import tensors_in


def without_numbers(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers are new and hold nothing in particular, for a mode in which tensors are
    shapes (torch's FakeTensorMode); those on the meta device become the CPU's. ValueError as for `copied`."""
    made: dict[int, Any] = {}
    for t in (*model.parameters(), *model.buffers()):
        own = torch.empty_like(t, device="cpu" if t.is_meta else t.device)
        made[id(t)] = nn.Parameter(own, t.requires_grad) if isinstance(t, nn.Parameter) else own
    return copied(model, made)


def copied(model: nn.Module, known: Mapping[int, Any] = MappingProxyType({})) -> nn.Module:
    """A copy that shares nothing with the network.

    Old weight_norm, spectral_norm and pruning keep a computed weight beside the parameters, which copy.deepcopy
    refuses; the copy has its values, until its next forward pass computes it anew. Scripted functions, which nothing
    changes, are those of the network. known: what takes the place of some of its objects, by their identity.

    Raises:
        ValueError: where the network cannot be copied.
    """
    memo: dict[int, Any] = {
        id(t): t.detach().clone()
        for module in model.modules()
        for t in tensors_in(vars(module))
        if t.requires_grad and not t.is_leaf
    }
    memo |= {
        id(value): value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, torch.jit.ScriptFunction)
    }
    memo |= known
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"the network ({type(model).__name__}) cannot be copied by copy.deepcopy ({type(error).__name__}: {said}); "
            "give what it holds a __deepcopy__, or keep it outside"
        ) from error
