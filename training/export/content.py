"""What an exported file holds: tensors by name, and metadata that says what they mean."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from training.export.layer import ExportedLayer
from training.export.loading import ALIASES, LAYERS, PROBE, aliases_of
from training.quantizers.description import to_plain


def content_of(model: nn.Module, layers: list[ExportedLayer], whole: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a network and its quantized products. whole: the weights in float32 too."""
    tensors: dict[str, Tensor] = {}
    rows = [_row(entry, tensors) for entry in layers]
    aliases = aliases_of(model)
    coded = {aliases.get(entry.parameter, entry.parameter) for entry in layers}
    # Weights that modules share, or that have other codes at each product, may be used in float32 too.
    kept = {first for name, first in aliases.items() if _module(model, name) is not _module(model, first)}
    codes = Counter(parameter for parameter, _ in {(row["parameter"], row["codes"]) for row in rows})
    kept |= {aliases.get(name, name) for name, count in codes.items() if count > 1}
    for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        if whole or name not in coded or name in kept:
            if name in tensors:
                raise ValueError(f"{name} is a name of the network and one that an export gives to codes; rename it")
            tensors[name] = tensor
    own = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    return own, {LAYERS: json.dumps(rows), ALIASES: json.dumps(aliases), PROBE: "null"}


def _module(model: nn.Module, parameter: str) -> nn.Module:
    return model.get_submodule(parameter.rpartition(".")[0])


def _row(entry: ExportedLayer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What the file says of a product, whose tensors are put to the others."""
    product = entry.site or entry.layer
    weight = {"codes": entry.codes, "scale": entry.scale, "table": entry.table}
    name = entry.parameter
    if any(_other(tensors, f"{name}.{key}", tensor) for key, tensor in weight.items()):
        name = f"{entry.parameter} at {product}"
    named = {key: (f"{name}.{key}", tensor) for key, tensor in weight.items()}
    named["added"] = f"{product}.added", entry.added
    named["folded_bias"] = f"{entry.parameter}.folded_bias", entry.folded_bias
    if _other(tensors, *named["folded_bias"]):
        named["folded_bias"] = f"{product}.folded_bias", entry.folded_bias
    tensors |= {key: tensor for key, tensor in named.values() if tensor is not None}
    return {
        "layer": entry.layer,
        "site": entry.site,
        "parameter": entry.parameter,
        "code": entry.code,
        "input": to_plain(entry.input),
        "output": to_plain(entry.output),
        **{key: name if tensor is not None else None for key, (name, tensor) in named.items()},
    }


def _other(tensors: dict[str, Tensor], name: str, tensor: Tensor | None) -> bool:
    """Whether a name is taken by another tensor."""
    return name in tensors and (tensor is None or not torch.equal(tensors[name], tensor))
