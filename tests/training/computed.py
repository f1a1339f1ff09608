"""Layers whose weight torch computes from other parameters, in each of its ways."""

from collections.abc import Callable

from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm


def ways(pruned: int) -> dict[str, Callable[[nn.Module], nn.Module]]:
    """By name; pruned: so many weights are cut."""
    return {
        "new weight_norm": parametrizations.weight_norm,
        "orthogonal": parametrizations.orthogonal,
        "new spectral_norm": parametrizations.spectral_norm,
        "old weight_norm": weight_norm,
        "old spectral_norm": spectral_norm,
        "pruning": lambda m: prune.l1_unstructured(m, "weight", pruned),
    }
