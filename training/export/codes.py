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
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from numeric_formats.files import write_atomically
from training.export.agreement import EXACT, Call, difference, first_call, outputs_of, where
from training.export.content import content_of
from training.export.layer import Exportable
from training.export.loading import PROBE, Stored, filled, load, stored
from training.export.probe import check_probe, probe_of
from workloads.copies import copied
from workloads.workload import Workload

__all__ = ["check_export", "export", "export_to", "load"]

SUFFIXES = (".safetensors", ".onnx")


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
        By how much outputs differ, relative to their size (at most `EXACT`); None without a workload.

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
        tensors, metadata = content_of(model, layers, whole)
        metadata[PROBE] = json.dumps(probe)
        made = _loaded(replace(stored(str(path), metadata, tensors), probe=None), model)
        apart = None if call is None or want is None else difference(outputs_of(made, call), want)
        if apart is None or apart <= EXACT:
            if probe is not None:
                check_probe(str(path), probe, made)
            write_atomically(Path(path), save(tensors, metadata=metadata))
            return apart
        # Weights that have other uses too, which shows here alone, stay beside their codes.
    assert call is not None
    raise ValueError(
        f"export {path}: what is loaded from it differs from evaluation by {apart:.2g} of the outputs' size (at most "
        f"{EXACT:g} is allowed){where(made, model, quantized, call, EXACT)}; nothing was written"
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
