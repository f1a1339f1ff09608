"""A trained network as integer codes and scales, in one safetensors file, and back as a plain torch module.

The file holds, for every quantized layer, `<weight>.codes` (uint8 or int8, of the weight's shape) and `<weight>.scale`
(float32), where they are needed `<weight>.table` (values of codes), `<layer>.added` (what is added to the output) and
`<weight>.folded_bias` (what an offset of the input adds to each output channel away from padding); all other parameters
and buffers as they are. Its metadata, under "layers", is a JSON list of layers: layer, parameter, code ("integer":
value = code * scale; "table": table[code] * scale; else the name of a format, whose value is multiplied by scale),
input and output: how they are quantized (`training.quantizers.description`), or null.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from numeric_formats.files import write_atomically
from training.export.layer import Exportable, ExportedLayer
from training.quantizers.clipped import Clipped
from training.quantizers.description import from_plain, to_plain
from workloads.workload import Workload

TABLES = ("table", "folded_bias")
SUFFIXES = (".safetensors", ".onnx")


def export(path: Path | str, model: nn.Module, quantized: Exportable) -> None:
    """Write a trained network as its method evaluates it, to a safetensors file.

    Args:
        path: Of the file.
        model: `Result.model`, or `Quantized.network`.
        quantized: What knows its quantized layers: `Result.method_state`, or `Quantized.codes`.

    Raises:
        ValueError: Where a weight is used by layers that quantize it, or what goes in and out, in more than one way, or
            has no 8-bit codes.
    """
    layers = quantized.exported()
    tensors, listed = _tensors(layers)
    coded = {entry.parameter for entry in layers}
    rest = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors |= {name: tensor for name, tensor in rest.items() if name not in coded}
    own = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    content = save(own, metadata={"layers": json.dumps(listed)})
    write_atomically(Path(path), content)


def check_export(path: Path) -> None:
    """ValueError for a name that `export_to` does not take, or where what it needs is not installed."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"export {path}: allowed are names that end in {' or '.join(SUFFIXES)}")
    if path.suffix == ".onnx" and find_spec("onnxscript") is None:
        raise ValueError("onnxscript is not installed; pip install 'numeric-formats[onnx]', or export to .safetensors")


def export_to(path: Path, workload: Workload, model: nn.Module, quantized: Exportable) -> None:
    """Write a network and what quantizes it, as the name's end says: .safetensors or .onnx.

    Args:
        path: Of the file.
        workload: Whose mini-batches show what the network takes, which ONNX needs.
        model: `Result.model`, or `Quantized.network`.
        quantized: What knows its quantized layers: `Result.method_state`, or `Quantized.codes`.

    Raises:
        ValueError: As `export` and `export_onnx` do.
    """
    check_export(path)
    if path.suffix == ".safetensors":
        export(path, model, quantized)
        return
    from training.export.onnx import export_onnx

    example = workload.minibatches(2 if callable(workload.batches) else None)[0]
    x = example[0] if isinstance(example, tuple | list) else example
    if not isinstance(x, Tensor):
        raise ValueError(
            f"export {path}: mini-batches of {workload.name} do not begin with the tensor that its network takes; "
            "use .safetensors"
        )
    export_onnx(path, model, quantized, x)


def _tensors(layers: list[ExportedLayer]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    tensors: dict[str, Tensor] = {}
    listed: list[dict[str, Any]] = []
    for entry in layers:
        row = {
            "layer": entry.layer,
            "parameter": entry.parameter,
            "code": entry.code,
            "input": to_plain(entry.input),
            "output": to_plain(entry.output),
        }
        if any(row["layer"] == other["layer"] or row["parameter"] == other["parameter"] for other in listed):
            raise ValueError(
                f"layer {entry.layer or '(network)'} or its weight {entry.parameter} takes part in more than one "
                "product; no export has room for that"
            )
        listed.append(row)
        tensors[f"{entry.parameter}.codes"], tensors[f"{entry.parameter}.scale"] = entry.codes, entry.scale
        for key in TABLES:
            if (tensor := getattr(entry, key)) is not None:
                tensors[f"{entry.parameter}.{key}"] = tensor
        if entry.added is not None:
            tensors[f"{entry.layer}.added"] = entry.added
    return tensors, listed


def load(path: Path | str, model: nn.Module) -> nn.Module:
    """A copy of a network with exported weights, in evaluation mode, that computes in plain float32.

    Inputs and outputs of the layers are quantized by hooks, as the file says.

    Args:
        path: Of the file.
        model: A network of the same class.

    Raises:
        ValueError: Where the file is none, or does not fit.
    """
    try:
        with safe_open(path, "pt") as file:
            listed = json.loads((file.metadata() or {})["layers"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is cut short or no export ({error})") from None
    model = copy.deepcopy(model).eval()
    weights = {row["parameter"]: _decoded(row["code"], row["parameter"], tensors) for row in listed}
    needed = model.state_dict()
    state = {name: tensor for name in needed if (tensor := weights.get(name, tensors.get(name))) is not None}
    if missing := [name for name, tensor in needed.items() if name not in state or state[name].shape != tensor.shape]:
        raise ValueError(
            f"{path} has no {', '.join(missing)} of the network's shape; it is an export of another network"
        )
    model.load_state_dict(state)
    for row in listed:
        layer = model.get_submodule(row["layer"])
        input, output = from_plain(row["input"]), from_plain(row["output"])
        if input is not None:
            layer.register_forward_pre_hook(_before(input.quantizer()))
        added = tensors.get(f"{row['layer']}.added")
        if added is not None:
            layer.register_forward_hook(_after(lambda y, added=added: y + added))  # type: ignore[misc]
        if output is not None:
            layer.register_forward_hook(_after(output.quantizer()))
    return model


def _decoded(code: str, name: str, tensors: dict[str, Tensor]) -> Tensor:
    """The float32 weight that codes stand for."""
    codes, scale = tensors[f"{name}.codes"], tensors[f"{name}.scale"]
    if code == "integer":
        return codes.float() * scale
    if code == "table":
        return tensors[f"{name}.table"][codes.long()] * scale
    return Clipped(code).decode(codes, scale)


def _before(quantize: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any], Any]:
    return lambda _, args: (quantize(args[0]), *args[1:])


def _after(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda _, args, output: change(output)
