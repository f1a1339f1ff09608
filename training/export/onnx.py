"""A trained network as ONNX, with QuantizeLinear and DequantizeLinear around its integer products.

Weights are INT8 or INT4 tensors that DequantizeLinear turns to float32; where a method quantizes a layer's input,
QuantizeLinear and DequantizeLinear stand before the layer, with a scale that is known, or for methods that scale by
each tensor's own range, found as the network runs. Rounding is to nearest even of the float32 quotient, as ONNX defines
it, so that an element within half a unit in the last place of a tie may get the neighbouring code. Needs the extra
`onnx`. Source: ONNX operator specification, versions 21 (INT4) and before.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from numeric_formats.files import write_atomically
from numeric_formats.messages import one_line
from predictor.flow.dataflow import DataFlow
from predictor.flow.layers import unwrapped
from predictor.flow.sites import Quantizers, Site
from training.export.agreement import Call, evaluated
from training.export.layer import Exportable, ExportedLayer
from training.export.operations import (
    INT4,
    OPSET,
    add_biases_apart,
    dequantize,
    dynamic_round_trip,
    round_trip,
    translations,
)
from training.export.running import checked
from training.quantizers.clipped import SMALLEST_STEP
from training.quantizers.description import (
    AtAbsmax,
    AtThreshold,
    Description,
    FixedRange,
    FixedStep,
    OwnRange,
    PartOfRange,
)
from training.quantizers.integers import zero_point
from workloads.copies import copied


class _Weight(nn.Module):
    """A weight from its codes."""

    codes: Tensor
    scale: Tensor

    def __init__(self, entry: ExportedLayer, codes: Tensor, bits: int):
        super().__init__()
        self.register_buffer("codes", codes.contiguous())
        along = [d for d, size in enumerate(entry.scale.shape) if size > 1]
        self.axis, self.bits = along[0] if along else -1, bits
        self.register_buffer(
            "scale", entry.scale.detach().float().flatten() if along else entry.scale.detach().float().reshape(())
        )

    def forward(self) -> Tensor:
        found: Tensor = dequantize(self.codes, self.scale, self.axis, self.bits)
        return found


class _Input(nn.Module):
    """What quantizes an input or output, in ONNX. Raises ValueError for what has no counterpart there."""

    scale: Tensor

    def __init__(self, layer: str, described: Description):
        super().__init__()
        self.own_range, self.at_absmax = isinstance(described, OwnRange), isinstance(described, AtAbsmax)
        self.low, self.high, self.zero = 0, 0, 0
        self.offset: float | None = None
        scale = 1.0
        if isinstance(described, AtAbsmax | AtThreshold):
            self.low, self.high = _integers(layer, described.format)
            scale = described.threshold / self.high if isinstance(described, AtThreshold) else 0.0
        elif isinstance(described, FixedStep):
            self.low, self.high, self.offset, scale = described.low, described.high, described.offset, described.step
        elif isinstance(described, FixedRange):
            self.high = 2**described.bits - 1
            step, zero = zero_point(torch.tensor(described.low), torch.tensor(described.high), described.bits)
            scale, self.zero = step.item(), int(zero)
        elif not isinstance(described, OwnRange) or described.bits != 8:
            raise ValueError(f"layer {layer}: ONNX's linear quantization has no counterpart of {described}")
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        if self.own_range:
            dynamic: Tensor = dynamic_round_trip(x)
            return dynamic
        scale = (x.abs().max() / self.high).clamp(min=SMALLEST_STEP) if self.at_absmax else self.scale
        moved = x if self.offset is None else x - self.offset
        rounded: Tensor = round_trip(moved, scale, self.zero, self.low, self.high)
        return rounded if self.offset is None else rounded + self.offset


class _Output(nn.Module):
    """What happens to a product: values are added, and it is quantized."""

    def __init__(self, entry: ExportedLayer):
        super().__init__()
        if isinstance(entry.output, PartOfRange):
            raise ValueError(f"layer {entry.layer}: it has a clipped output, which the ONNX export has no room for")
        self.register_buffer("added", None if entry.added is None else entry.added.detach().clone())
        self.quantize = None if entry.output is None else _Input(entry.layer, entry.output)

    added: Tensor | None

    def forward(self, y: Tensor) -> Tensor:
        if self.added is not None:
            y = y + self.added
        return y if self.quantize is None else self.quantize(y)


def _integers(layer: str, name: str) -> tuple[int, int]:
    """The symmetric codes of INT8 or INT4. Raises ValueError for other formats."""
    if name not in ("INT8", "INT4"):
        raise ValueError(
            f"layer {layer}: ONNX has no {name}; INT8 and INT4 can be exported to it, and any format to .safetensors"
        )
    high = 2 ** (int(name[3:]) - 1) - 1
    return -high, high


def _codes(entry: ExportedLayer) -> Tensor:
    """The codes as signed integers. Raises ValueError for what ONNX has no integers for."""
    if entry.code == "integer":
        return entry.codes
    if entry.code not in ("INT8", "INT4"):
        kind = "codes of a table of values" if entry.code == "table" else entry.code
        raise ValueError(
            f"layer {entry.layer}: ONNX has no {kind}; INT8 and INT4 can be exported to it, and any format to "
            ".safetensors"
        )
    # Bits of two's complement.
    half = 1 << (int(entry.code[3:]) - 1)
    return ((entry.codes.to(torch.int16) ^ half) - half).to(torch.int8)


class _Product(nn.Module):
    """What quantizes one product."""

    weight: _Weight
    input: _Input | None
    output: _Output | None

    def __init__(self, entry: ExportedLayer):
        super().__init__()
        codes = _codes(entry)
        bits = 4 if int(codes.min()) >= INT4[0] and int(codes.max()) <= INT4[1] else 8
        self.weight = _Weight(entry, codes, bits)
        self.input = None if entry.input is None else _Input(entry.layer, entry.input)
        self.output = None if entry.output is None and entry.added is None else _Output(entry)

    def quantizers(self, parameter: Tensor) -> Quantizers:
        """For the data flow. parameter: the network's own weight, of which the product may see another layout."""
        size, stride, begin = tuple(parameter.shape), parameter.stride(), parameter.storage_offset()

        def weight(given: Tensor) -> Tensor:
            found: Tensor = self.weight()
            if (tuple(given.shape), given.stride()) == (size, stride):
                return found
            axes = [_axis(given, d, size, stride) for d in range(given.ndim)]
            if given.storage_offset() != begin or sorted(axes) != list(range(len(size))):
                raise ValueError("ONNX holds whole weights, with their axes in any order; use .safetensors")
            return found.permute(axes)

        return Quantizers(self.input, weight, self.output)


def _axis(given: Tensor, d: int, size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Which axis of a parameter an axis of its view is; -1 for none."""
    same = [k for k, axis in enumerate(zip(size, stride, strict=True)) if axis == (given.shape[d], given.stride()[d])]
    return same[0] if len(same) == 1 else -1


class _Whole(nn.Module):
    """Calls a network as a module: of a traced one the exporter would take the graph alone, without its hooks."""

    def __init__(self, network: nn.Module, products: list[_Product]):
        super().__init__()
        # So that the exporter finds the tensors of the latter; in the network they might be taken for a part of it.
        self.network, self.products = network, nn.ModuleList(products)

    def forward(self, *args: Tensor) -> Any:
        return self.network(*args)


@contextmanager
def _at_products(model: nn.Module, layers: list[ExportedLayer]) -> Iterator[_Whole]:
    """Inside, a copy of the network that quantizes at its products by the operations above.

    Raises ValueError for what ONNX has no integers for.
    """
    model = copied(unwrapped(model)).eval()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    made = [_Product(entry) for entry in layers]
    by_site: dict[str, Quantizers] = {}
    by_layer: dict[str, Quantizers] = {}
    for entry, product in zip(layers, made, strict=True):
        found = product.quantizers(parameters[entry.parameter])
        if entry.site is None:
            by_layer[entry.layer] = found
        else:
            by_site[entry.site] = found

    def site(at: Site) -> Quantizers | None:
        return by_site.get(at.name, by_layer.get(at.layer))

    flow = DataFlow(model)
    flow.site, flow.pointed = site, False
    with flow:
        yield _Whole(model, made)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages that are not installed, of its own future, and of what it cannot
    do."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(level)


def export_onnx(path: Path | str, model: nn.Module, quantized: Exportable, *example: Tensor) -> float | None:
    """Write a trained network as ONNX; the first axis of input and output may have any size.

    Before it is written, onnxruntime runs it, as it does by default, beside evaluation.

    Args:
        path: Of the file.
        model: `Result.model`, or `Quantized.network`.
        quantized: What knows its quantized layers: `Result.method_state`, or `Quantized.codes`.
        *example: What the network takes: its inputs of a mini-batch, which both are run on.

    Returns:
        By how much outputs differ, relative to their size (`training.export.running`); None where onnxruntime is not
        installed.

    Raises:
        ValueError: Where the weights are no INT8 or INT4, something has no counterpart in ONNX, or onnxruntime computes
            something else than evaluation; nothing is written then.
        ImportError: Without the extra `onnx`.
    """
    if not example:
        raise ValueError(f"export {path}: an input of the network is needed")
    call = Call(example, {})
    want = evaluated(model, quantized, call)
    layers = quantized.exported()
    if not layers:
        raise ValueError("the method has no quantized layers to export")
    with _at_products(model, layers) as made:
        content = _content(path, made, example)
        found = None if find_spec("onnxruntime") is None else checked(path, content, made, model, quantized, call, want)
    write_atomically(Path(path), content)
    return found


def _content(path: Path | str, made: _Whole, example: tuple[Tensor, ...]) -> bytes:
    """The file's. Raises ValueError for what torch's exporter cannot express."""
    names = ["input"] if len(example) == 1 else [f"input{k}" for k in range(len(example))]
    batch = torch.export.Dim("batch", min=1)
    try:
        # Two rows, since one would be taken for the only size.
        few = tuple((x if len(x) > 1 else torch.cat([x, x]))[:2].contiguous() for x in example)
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                made, few, opset_version=OPSET, dynamo=True, verbose=False, external_data=False,
                input_names=names, dynamic_shapes={"args": tuple({0: batch} for _ in few)},
                custom_translation_table=translations(),
            )  # fmt: skip
            assert program is not None
            add_biases_apart(program.model)
            content: bytes = program.model_proto.SerializeToString()
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        reason = one_line(_root(error))[:200]
        raise ValueError(
            f"export {path}: torch cannot write the network as ONNX ({reason}); use .safetensors"
        ) from error
    return content


def _root(error: BaseException) -> BaseException:
    """What an error came from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
