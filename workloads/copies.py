"""Copies of networks, also of those that hold tensors which autograd made in their last forward pass."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from workloads.containers import tensors_in


def copied(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the network.

    Old weight_norm, spectral_norm and pruning keep a computed weight beside the parameters, which copy.deepcopy
    refuses; the copy has its values, until its next forward pass computes it anew. Scripted functions, which nothing
    changes, are those of the network.

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
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"the network ({type(model).__name__}) cannot be copied by copy.deepcopy ({type(error).__name__}: {said}); "
            "give what it holds a __deepcopy__, or keep it outside"
        ) from error
