"""Whether onnxruntime computes each product as evaluation does, where their outputs differ by more than rounding.

A number near a tie may get another code, and through many layers such a difference grows to the size of the noise of
quantization itself. So each part of the network between two quantized tensors is held against evaluation by itself:
evaluation goes on from the tensors that onnxruntime has quantized, and has to find the same codes at the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from predictor.flow.sites import Quantizers, Site
from training.export.agreement import Call, difference
from training.export.content import content_of
from training.export.layer import ExportedLayer
from training.export.loading import Around, filled, stored
from workloads.containers import tensors_in

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SAME = 1e-5
"""Numbers that differ by less than this, relative to the largest of a tensor, have one code."""
OTHER = 0.005, 2
"""At most this share of a tensor's elements, or this many, may have another code."""


def with_inputs_of_products(content: bytes) -> tuple[bytes, list[str]]:
    """A graph that gives what its products with quantized weights read too, and their names in its order."""
    import onnx

    model = onnx.load_from_string(content)
    makers = {name: node for node in model.graph.node for name in node.output}

    def is_weight(name: str) -> bool:
        node = makers.get(name)
        if node is None or node.op_type not in ("Transpose", "Reshape", "DequantizeLinear"):
            return False
        return (node.op_type == "DequantizeLinear" and not _is_made(makers, node.input[0])) or is_weight(node.input[0])

    found = [node.input[0] for node in model.graph.node if node.op_type in PRODUCTS and is_weight(node.input[1])]
    there = {entry.name for entry in model.graph.output} | {entry.name for entry in model.graph.input}
    for name in dict.fromkeys(found):
        if name not in there:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model.SerializeToString(), found


def _is_made(makers: dict[str, Any], name: str) -> bool:
    """Whether codes are made as the network runs; those of weights are at most cast."""
    node = makers.get(name)
    return node is not None and (node.op_type != "Cast" or _is_made(makers, node.input[0]))


def as_exported(
    model: nn.Module, layers: list[ExportedLayer], around: Around = lambda _, quantizers: quantizers
) -> nn.Module:
    """The network as it is loaded from an exported file; around: see `training.export.loading.filled`."""
    tensors, metadata = content_of(model, layers, whole=True)
    return filled(stored("", metadata, tensors), model, around)


def first_other(
    model: nn.Module, layers: list[ExportedLayer], call: Call, read: Sequence[Tensor], outputs: list[Tensor]
) -> str | None:
    """Where evaluation that goes on from the tensors that products read (in their order) finds something else: the name
    of a layer, or what else it is; None where it finds the same."""
    waiting, wrong = list(read), list[str]()

    def follow(site: Site, quantizers: Quantizers | None) -> Quantizers | None:
        if quantizers is None:
            return None

        def take(x: Tensor) -> Tensor:
            own = x if quantizers.input is None else quantizers.input(x)
            if not waiting or waiting[0].numel() != own.numel():
                wrong.append("products that cannot be told apart")
                return own
            given = waiting.pop(0).to(own.dtype).reshape(own.shape)
            others = int(((own - given).abs() > SAME * own.abs().amax()).sum())
            share, few = OTHER
            if others > max(few, share * own.numel()):
                wrong.append(f"layer {site.layer or '(network)'}")
            return given

        return replace(quantizers, input=take)

    following = as_exported(model, layers, follow)
    with torch.no_grad():
        given = following(*call.args)
    if waiting:
        wrong.append("products that evaluation has not")
    if not wrong and difference(_tensors(given), outputs) > 1e-3:
        wrong.append("the outputs")
    return wrong[0] if wrong else None


def _tensors(given: Any) -> list[Tensor]:
    return [t.detach().double().cpu() for t in tensors_in(given)]
