"""Weights that layers compute from other parameters (torch.nn.utils: parametrizations, weight_norm, spectral_norm,
pruning) as plain parameters, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm, weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from workloads.copies import copied


def _hooks(module: nn.Module) -> list[Any]:
    """What computes a weight before each forward pass, in torch's older way."""
    kinds = WeightNorm | SpectralNorm | prune.BasePruningMethod
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, kinds)]


def computes_weights(module: nn.Module) -> bool:
    """Whether a module by itself computes a weight in one of torch's ways."""
    return parametrize.is_parametrized(module) or bool(_hooks(module))


def _unparametrize(module: Any) -> None:
    """What torch's remove_parametrizations does, which would take the weight from the network's own layer too: copies
    share one class with it."""
    found = {name: (getattr(module, name), each) for name, each in module.parametrizations.items()}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, (value, each) in found.items():
        originals = list(each.parameters(recurse=False))
        if originals:
            trained = any(parameter.requires_grad for parameter in originals)
            module.register_parameter(name, nn.Parameter(value.clone(), requires_grad=trained))
        else:
            module.register_buffer(name, value.clone())


@torch.no_grad()
def make_plain(model: nn.Module) -> None:
    """Let every weight that is computed become a parameter, which holds what the layer's product sees in evaluation
    mode.

    Args:
        model: It is changed.

    Raises:
        ValueError: That names the layer where torch cannot do it.
    """
    for name, module in list(model.named_modules()):
        try:
            if parametrize.is_parametrized(module):
                _unparametrize(module)
            for hook in _hooks(module):
                if isinstance(hook, WeightNorm):
                    remove_weight_norm(module, hook.name)
                elif isinstance(hook, SpectralNorm):
                    remove_spectral_norm(module, hook.name)
                else:
                    prune.remove(module, hook._tensor_name)
        except Exception as error:
            raise ValueError(
                f"layer {name or '(network)'} ({type(module).__name__}) has a computed weight that cannot be made a "
                f"parameter: {' '.join(str(error).split())}"
            ) from error


@torch.no_grad()
def reset_computed(module: nn.Module) -> None:
    """`reset_parameters` of a module that computes its weight, whose parameters are set so that it is the new one.

    Raises:
        NotImplementedError: Where a parametrization has no inverse.
    """
    plain: Any = copied(module).eval()
    make_plain(plain)
    plain.reset_parameters()
    new = dict(plain.named_parameters(recurse=False))
    for key, parameter in module.named_parameters(recurse=False):
        if key in new:
            parameter.copy_(new[key])
    if parametrize.is_parametrized(module):
        for tensor in module.parametrizations:  # type: ignore[union-attr]
            setattr(module, tensor, new[tensor].detach())  # a tensor goes by the parametrization's inverse
    for hook in _hooks(module):
        if isinstance(hook, WeightNorm):
            weight_norm(plain, hook.name, hook.dim)
            for part in ("g", "v"):
                getattr(module, f"{hook.name}_{part}").copy_(getattr(plain, f"{hook.name}_{part}"))
        else:
            tensor = hook.name if isinstance(hook, SpectralNorm) else hook._tensor_name
            getattr(module, f"{tensor}_orig").copy_(new[tensor])
