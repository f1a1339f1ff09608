"""New random weights, of which none is left from before."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from training.plain_weights import computes_weights, reset_computed


def start_from_scratch(model: nn.Module) -> None:
    """Draw new weights by every module's own `reset_parameters`.

    All parameters are NaN before, so that one which nothing draws anew shows.

    Raises:
        ValueError: That names the layer where a module with parameters has none, or leaves some as they were.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.fill_(math.nan)
    for name, module in model.named_modules():
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
