"""A trained network as ONNX, with QuantizeLinear and DequantizeLinear around its integer products.

Weights are INT8 or INT4 tensors that DequantizeLinear turns to float32; where a method quantizes a layer's input,
QuantizeLinear and DequantizeLinear stand before the layer, with a scale that is known, or for methods that scale by
each tensor's own range, found as the network runs. Rounding is to nearest even of the float32 quotient, as ONNX defines
it, so that an element within half a unit in the last place of a tie may get the neighbouring code. Needs the extra
`onnx`. Source: ONNX operator specification, versions 21 (INT4) and before.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from numeric_formats.files import write_atomically
from training.export.layer import Exportable, ExportedLayer
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

OPSET = 21
"""The first with INT4."""

INT8, INT4 = (-128, 127), (-8, 7)


# Operations that the exporter translates: what they compute in torch is what ONNX defines.


@torch.library.custom_op("formats::dequantize", mutates_args=())
def _dequantize(codes: Tensor, scale: Tensor, axis: int, bits: int) -> Tensor:
    return codes.float() * (scale if axis < 0 else scale.reshape([-1 if d == axis else 1 for d in range(codes.ndim)]))


@torch.library.custom_op("formats::round_trip", mutates_args=())
def _round_trip(x: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
    """Through QuantizeLinear and DequantizeLinear with codes from low to high; scale a tensor, so that it may be found
    as the network runs."""
    return ((x / scale).round() + zero).clamp(low, high).sub(zero) * scale


@torch.library.custom_op("formats::dynamic_round_trip", mutates_args=())
def _dynamic_round_trip(x: Tensor) -> Tensor:
    """Through DynamicQuantizeLinear and DequantizeLinear."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round().clamp(0, 255)
    return (((x / scale).round() + zero).clamp(0, 255) - zero) * scale


@_dequantize.register_fake
def _(codes: Tensor, scale: Tensor, axis: int, bits: int) -> Tensor:
    return torch.empty(codes.shape)


@_round_trip.register_fake
def _(x: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
    return torch.empty_like(x)


@_dynamic_round_trip.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _translations() -> dict[Any, Any]:
    """What the exporter writes for each of these operations."""
    import onnx_ir
    import onnxscript

    op: Any = onnxscript.opset21
    types = {
        INT8: onnx_ir.DataType.INT8,
        INT4: onnx_ir.DataType.INT4,
        (0, 255): onnx_ir.DataType.UINT8,
        (0, 15): onnx_ir.DataType.UINT4,
    }

    def dequantize(codes: Any, scale: Any, axis: int, bits: int) -> Any:
        narrow = op.Cast(codes, to=types[INT4]) if bits == 4 else codes
        return op.DequantizeLinear(narrow, scale, axis=axis) if axis >= 0 else op.DequantizeLinear(narrow, scale)

    def round_trip(x: Any, scale: Any, zero: int, low: int, high: int) -> Any:
        # Signed numbers of few bits are INT8 behind a Clip: onnxruntime 1.31 drops a ReLU before QuantizeLinear to
        # INT4, as if 0 were its least.
        kind = (low, high) if low == 0 and (low, high) in types else (INT8 if low < 0 else (0, 255))
        if kind != (low, high):
            ends = [
                op.Mul(op.CastLike(op.Constant(value_float=float(end - zero)), scale), scale) for end in (low, high)
            ]
            x = op.Clip(x, *ends)
        at = op.Cast(op.Constant(value_int=zero), to=types[kind])
        return op.DequantizeLinear(op.QuantizeLinear(x, scale, at), scale, at)

    def dynamic_round_trip(x: Any) -> Any:
        return op.DequantizeLinear(*op.DynamicQuantizeLinear(x))

    ours = torch.ops.formats
    return {
        ours.dequantize.default: dequantize,
        ours.round_trip.default: round_trip,
        ours.dynamic_round_trip.default: dynamic_round_trip,
    }


class _Weight(nn.Module):
    """A weight from its codes, whatever the parameter holds."""

    codes: Tensor
    scale: Tensor

    def __init__(self, entry: ExportedLayer, bits: int):
        super().__init__()
        self.register_buffer("codes", entry.codes.contiguous())
        along = [d for d, size in enumerate(entry.scale.shape) if size > 1]
        self.axis, self.bits = along[0] if along else -1, bits
        self.register_buffer(
            "scale", entry.scale.detach().float().flatten() if along else entry.scale.detach().float().reshape(())
        )

    def forward(self, weight: Tensor) -> Tensor:
        found: Tensor = _dequantize(self.codes, self.scale, self.axis, self.bits)
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
            scale = max((described.high - described.low) / self.high, SMALLEST_STEP)
            self.zero = round(-described.low / scale)
        elif not isinstance(described, OwnRange) or described.bits != 8:
            raise ValueError(f"layer {layer}: ONNX's linear quantization has no counterpart of {described}")
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        if self.own_range:
            dynamic: Tensor = _dynamic_round_trip(x)
            return dynamic
        scale = (x.abs().max() / self.high).clamp(min=SMALLEST_STEP) if self.at_absmax else self.scale
        moved = x if self.offset is None else x - self.offset
        rounded: Tensor = _round_trip(moved, scale, self.zero, self.low, self.high)
        return rounded if self.offset is None else rounded + self.offset


class _Added(nn.Module):
    def __init__(self, added: Tensor):
        super().__init__()
        self.register_buffer("added", added.detach().clone())

    added: Tensor

    def forward(self, y: Tensor) -> Tensor:
        return y + self.added


def _integers(layer: str, name: str) -> tuple[int, int]:
    """The symmetric codes of INT8 or INT4. Raises ValueError for other formats."""
    if name not in ("INT8", "INT4"):
        raise ValueError(
            f"layer {layer}: ONNX has no {name}; INT8 and INT4 can be exported to it, and any format to .safetensors"
        )
    high = 2 ** (int(name[3:]) - 1) - 1
    return -high, high


def _prepared(model: nn.Module, layers: list[ExportedLayer]) -> nn.Module:
    """A copy of the network that quantizes by the operations above. Raises ValueError for what ONNX has no integers
    for."""
    model = copy.deepcopy(model).eval()
    seen: set[str] = set()
    for entry in layers:
        clipped = isinstance(entry.output, PartOfRange)
        if entry.parameter in seen or clipped:
            what = "is used by several quantized layers" if entry.parameter in seen else "has a clipped output"
            raise ValueError(f"layer {entry.layer}: it {what}, which the ONNX export has no room for")
        if entry.code not in ("integer", "INT8", "INT4"):
            kind = "codes of a table of values" if entry.code == "table" else entry.code
            raise ValueError(
                f"layer {entry.layer}: ONNX has no {kind}; INT8 and INT4 can be exported to it, and any format to "
                ".safetensors"
            )
        seen.add(entry.parameter)
        codes = entry.codes
        if entry.code != "integer":
            # Bits of two's complement.
            half = 1 << (int(entry.code[3:]) - 1)
            codes = ((codes.to(torch.int16) ^ half) - half).to(torch.int8)
        bits = 4 if int(codes.min()) >= INT4[0] and int(codes.max()) <= INT4[1] else 8
        owner, _, parameter = entry.parameter.rpartition(".")
        weight = _Weight(ExportedLayer(entry.layer, entry.parameter, codes, entry.scale, "integer"), bits)
        parametrize.register_parametrization(model.get_submodule(owner), parameter, weight, unsafe=True)
        layer = model.get_submodule(entry.layer)
        if entry.input is not None:
            quantize = _Input(entry.layer, entry.input)
            layer.register_forward_pre_hook(lambda _, args, quantize=quantize: (quantize(args[0]), *args[1:]))
        if entry.added is not None:
            layer.register_forward_hook(lambda _, args, output, add=_Added(entry.added): add(output))
        if entry.output is not None:
            layer.register_forward_hook(
                lambda _, args, output, change=_Input(entry.layer, entry.output): change(output)
            )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages that are not installed and of its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def export_onnx(path: Path | str, model: nn.Module, quantized: Exportable, example: Tensor) -> None:
    """Write a trained network as ONNX; the first axis of input and output may have any size.

    Args:
        path: Of the file.
        model: `Result.model`, or `Quantized.network`.
        quantized: What knows its quantized layers: `Result.method_state`, or `Quantized.codes`.
        example: An input of the network.

    Raises:
        ValueError: Where the weights are no INT8 or INT4, or something has no counterpart in ONNX.
        ImportError: Without the extra `onnx`.
    """
    layers = quantized.exported()
    if not layers:
        raise ValueError("the method has no quantized layers to export")
    made = _prepared(model, layers)
    free = {0: torch.export.Dim("batch", min=1)}
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            made, (example[:2].contiguous(),), opset_version=OPSET, dynamo=True, verbose=False, external_data=False,
            input_names=["input"], output_names=["output"], dynamic_shapes=(free,),
            custom_translation_table=_translations(),
        )  # fmt: skip
    assert program is not None
    content = program.model_proto.SerializeToString()
    write_atomically(Path(path), content)
