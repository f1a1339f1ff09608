"""Operations that torch's ONNX exporter is told to translate: what they compute in torch is what ONNX defines; and what
is changed in its graph, so that onnxruntime computes what the graph says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

OPSET = 21
"""The first with INT4."""

INT8, INT4 = (-128, 127), (-8, 7)


@torch.library.custom_op("formats::dequantize", mutates_args=())
def dequantize(codes: Tensor, scale: Tensor, axis: int, bits: int) -> Tensor:
    """Codes times their scale, of one number or one along an axis (-1: one)."""
    return codes.float() * (scale if axis < 0 else scale.reshape([-1 if d == axis else 1 for d in range(codes.ndim)]))


@torch.library.custom_op("formats::round_trip", mutates_args=())
def round_trip(x: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
    """Through QuantizeLinear and DequantizeLinear with codes from low to high; scale a tensor, so that it may be found
    as the network runs."""
    return ((x / scale).round() + zero).clamp(low, high).sub(zero) * scale


@torch.library.custom_op("formats::dynamic_round_trip", mutates_args=())
def dynamic_round_trip(x: Tensor) -> Tensor:
    """Through DynamicQuantizeLinear and DequantizeLinear."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round().clamp(0, 255)
    return (((x / scale).round() + zero).clamp(0, 255) - zero) * scale


@dequantize.register_fake
def _(codes: Tensor, scale: Tensor, axis: int, bits: int) -> Tensor:
    return torch.empty_like(codes, dtype=torch.float32)


@round_trip.register_fake
def _(x: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
    return torch.empty_like(x)


@dynamic_round_trip.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def translations() -> dict[Any, Any]:
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

    def as_dequantize_linear(codes: Any, scale: Any, axis: int, bits: int) -> Any:
        narrow = op.Cast(codes, to=types[INT4]) if bits == 4 else codes
        return op.DequantizeLinear(narrow, scale, axis=axis) if axis >= 0 else op.DequantizeLinear(narrow, scale)

    def as_quantize_linear(x: Any, scale: Any, zero: int, low: int, high: int) -> Any:
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

    def as_dynamic_quantize_linear(x: Any) -> Any:
        return op.DequantizeLinear(*op.DynamicQuantizeLinear(x))

    ours = torch.ops.formats
    return {
        ours.dequantize.default: as_dequantize_linear,
        ours.round_trip.default: as_quantize_linear,
        ours.dynamic_round_trip.default: as_dynamic_quantize_linear,
    }


def add_biases_apart(model: Any) -> None:
    """Let products with quantized weights (of an onnx_ir model) have their biases added by a node of its own.

    onnxruntime 1.31 rounds a bias of a product to multiples of the scales of input and weight, where quantization
    follows: a large error at few bits. It puts an Add or a Sum into the product before that, and leaves a Sub alone.
    """
    import onnx_ir

    for node in list(model.graph):
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        weight, bias = node.inputs[1].producer(), node.inputs[2].const_value
        if weight is None or weight.op_type != "DequantizeLinear" or bias is None:
            continue
        values = bias.numpy()
        if node.op_type != "Gemm":
            # Along axis 1 of what it is added to.
            values = values.reshape(-1, *[1] * (len(node.inputs[1].shape) - 2))
        apart = onnx_ir.Value(name=f"{node.outputs[0].name}.negative_bias", const_value=onnx_ir.tensor(-values))
        apart.shape, apart.dtype = onnx_ir.Shape(values.shape), bias.dtype
        model.graph.register_initializer(apart)
        product = onnx_ir.node(node.op_type, node.inputs[:2], attributes=node.attributes)
        total = onnx_ir.node("Sub", [product.outputs[0], apart])
        onnx_ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], [product, total], node.outputs, total.outputs
        )
    for name, value in list(model.graph.initializers.items()):
        if not value.uses():
            del model.graph.initializers[name]
