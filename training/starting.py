"""New random weights, of which none is left from before."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from training.plain_weights import computes_weights, reset_computed


def start_from_scratch(model: nn.Module) -> None:
    """Draw new weights by every module's own `reset_parameters`, those of transformers' networks as these draw them.

    All parameters are NaN before, so that one which nothing draws anew shows.

    Raises:
        ValueError: That names the layer where a module with parameters has none, or leaves some as they were.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.fill_(math.nan)
    drawn: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in drawn:
            continue
        if callable(getattr(module, "initialize_weights", None)) and callable(getattr(module, "_init_weights", None)):
            _draw_as_transformers(module)
            drawn.update(module.modules())
            continue
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        where = f"layer {name or '(network)'} ({type(module).__name__})"
        if computes_weights(module):
            try:
                reset_computed(module)
            except (NotImplementedError, AttributeError, RuntimeError) as error:
                raise ValueError(
                    f"{where} computes its weight from other parameters, and these cannot be found for a new weight "
                    f"({' '.join(str(error).split())}); start from pretrained weights"
                ) from error
        elif callable(reset):
            reset()
        elif any(True for _ in module.parameters(recurse=False)) and not isinstance(module, ParametrizationList):
            raise ValueError(
                f"{where} has parameters and no reset_parameters, so it cannot start from scratch; start from "
                "pretrained weights"
            )
    for name, parameter in model.named_parameters():
        if parameter.isnan().any():
            raise ValueError(
                f"parameter {name} is not drawn anew by the reset_parameters of its layer, so it cannot start from "
                "scratch; start from pretrained weights"
            )


def _draw_as_transformers(network: nn.Module) -> None:
    """Weights of a network of transformers, which draws all that it does not know as drawn or loaded before."""
    for known in (*network.modules(), *network.parameters(), *network.buffers()):
        if hasattr(known, "_is_hf_initialized"):
            del known._is_hf_initialized
    network.initialize_weights()  # type: ignore[operator]  # asked for by the caller
