"""A trained network as integer codes and scales, in one safetensors file; `training.export.loading` reads it back.

The file holds, for every quantized weight, `<weight>.codes` (uint8 or int8, of the weight's shape) and `<weight>.scale`
(float32), where they are needed `<weight>.table` (values of codes), `<site>.added` (what is added to the output) and
`<weight>.folded_bias` (what an offset of the input adds to each output channel away from padding); all other parameters
and buffers as they are, and so a weight that has other uses than the quantized ones, as an embedding does that the last
layer shares. Its metadata, under "layers", is a JSON list of products: layer (the module), site (the product's own
name; null: every product of the layer), parameter, code ("integer": value = code * scale; "table":
table[code] * scale; else the name of a format, whose value is multiplied by scale), input and output: how they are
quantized (`training.quantizers.description`), or null; and codes, scale, table, added, folded_bias: the names of the
tensors, or null. Under "aliases" is a JSON object of other names that a parameter or buffer has in the network, under
"probe" what the network gives for an input that is made from its description, or null.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from numeric_formats.files import write_atomically
from training.export.agreement import Call, copied, difference, first_call, outputs_of, where
from training.export.layer import Exportable, ExportedLayer
from training.export.loading import ALIASES, LAYERS, PROBE, Stored, aliases_of, filled, load, stored
from training.export.probe import check_probe, probe_of
from training.quantizers.description import to_plain
from workloads.workload import Workload

__all__ = ["check_export", "export", "export_to", "load"]

SUFFIXES = (".safetensors", ".onnx")

TOLERANCE = 1e-5
"""More than this between outputs of a loaded file and of evaluation, relative to their size, is no export."""


def export(
    path: Path | str,
    model: nn.Module,
    quantized: Exportable,
    workload: Workload | None = None,
    batch_size: int | None = None,
) -> float | None:
    """Write a trained network as its method evaluates it, to a safetensors file.

    Before it is written, what it holds is loaded into a copy of the network; with a workload, that runs on its first
    mini-batch, beside evaluation.

    Args:
        path: Of the file.
        model: `Result.model`, or `Quantized.network`.
        quantized: What knows its quantized layers: `Result.method_state`, or `Quantized.codes`.
        workload: Whose mini-batch is run; None leaves that check out.
        batch_size: Of the mini-batch; None for the workload's.

    Returns:
        By how much outputs differ, relative to their size (at most `TOLERANCE`); None without a workload.

    Raises:
        ValueError: Where there is no quantized layer, a weight has no 8-bit codes, or what is loaded does not compute
            what evaluation computes; nothing is written then.
    """
    call = None if workload is None else example_call(workload, model, batch_size)
    want = probe = None
    if call is not None:
        with quantized.evaluated(copied(model)) as evaluating:
            want, probe = outputs_of(evaluating, call), probe_of(call, evaluating)
    # After evaluation, which may have come to layers for the first time.
    layers = quantized.exported()
    if not layers:
        raise ValueError(f"export {path}: nothing has quantized weights, so that there are no codes to write")
    for whole in (False, True):
        tensors, metadata = _content(model, layers, whole)
        metadata[PROBE] = json.dumps(probe)
        made = _loaded(replace(stored(str(path), metadata, tensors), probe=None), model)
        apart = None if call is None or want is None else difference(outputs_of(made, call), want)
        if apart is None or apart <= TOLERANCE:
            if probe is not None:
                check_probe(str(path), probe, made)
            write_atomically(Path(path), save(tensors, metadata=metadata))
            return apart
        # Weights that have other uses too, which shows here alone, stay beside their codes.
    assert call is not None
    raise ValueError(
        f"export {path}: what is loaded from it differs from evaluation by {apart:.2g} of the outputs' size (at most "
        f"{TOLERANCE:g} is allowed){where(made, model, quantized, call, TOLERANCE)}; nothing was written"
    )


def example_call(workload: Workload, model: nn.Module, batch_size: int | None) -> Call:
    """How the network is called in the workload's first mini-batch."""
    return first_call(workload, model, workload.minibatches(batch_size)[0])


def _loaded(held: Stored, model: nn.Module) -> nn.Module:
    """What `load` makes of a file, in a copy of the network that has nothing of its own left."""
    empty = copied(model)
    with torch.no_grad():
        for tensor in (*empty.parameters(), *empty.buffers()):
            tensor.fill_(torch.nan if tensor.is_floating_point() or tensor.is_complex() else 0)
    return filled(held, empty)


def check_export(path: Path) -> None:
    """ValueError for a name that `export_to` does not take, or where what it needs is not installed."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"export {path}: allowed are names that end in {' or '.join(SUFFIXES)}")
    if path.suffix == ".onnx" and find_spec("onnxscript") is None:
        raise ValueError("onnxscript is not installed; pip install 'numeric-formats[onnx]', or export to .safetensors")


def export_to(
    path: Path, workload: Workload, model: nn.Module, quantized: Exportable, batch_size: int | None = None
) -> str:
    """Write a network and what quantizes it, as the name's end says: .safetensors or .onnx; once what it holds has
    computed what evaluation computes.

    Args:
        path: Of the file.
        workload: Whose first mini-batch both compute.
        model: `Result.model`, or `Quantized.network`.
        quantized: What knows its quantized layers: `Result.method_state`, or `Quantized.codes`.
        batch_size: Of the mini-batch; None for the workload's.

    Returns:
        What was found, in words.

    Raises:
        ValueError: As `export` and `export_onnx` do.
    """
    check_export(path)
    if path.suffix == ".safetensors":
        found = export(path, model, quantized, workload, batch_size)
        return f"loaded again it differs from evaluation by {found:.1g} of the outputs' size"
    from training.export.onnx import export_onnx

    call = example_call(workload, model, batch_size)
    if call.kwargs or not call.args or not all(isinstance(x, Tensor) for x in call.args):
        raise ValueError(
            f"export {path}: the loss of {workload.name} does not call the network with tensors alone, as ONNX needs "
            "it; use .safetensors"
        )
    found = export_onnx(path, model, quantized, *call.args)
    if found is None:
        return "not checked: onnxruntime is not installed"
    return f"in onnxruntime it differs from evaluation by {found:.1g} of the outputs' size"


def _content(model: nn.Module, layers: list[ExportedLayer], whole: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. whole: the weights in float32 too."""
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
    return own, {LAYERS: json.dumps(rows), ALIASES: json.dumps(aliases)}


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
