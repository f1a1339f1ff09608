"""Sites: products of a network's input with its weights, computed from tensors that a training method quantizes
(docs/definitions/prediction.md section 1).

A point rounds what an operation gives; a site decides what an operation is computed from, in the forward pass and in
both products of the backward pass. No module of the network is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import _engine_run_backward

from predictor.flow.points import call_name

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
OPERATIONS = CONVOLUTIONS | {"linear", "matmul", "mm", "bmm"}
"""The operations that can be sites, by torch's names."""


@dataclass(frozen=True)
class Site:
    """One call of a convolution, linear layer or matrix product.

    Attributes:
        layer: the module it is in.
        operation: torch's name.
        call: how often this operation of this layer has run before in the forward pass.
        parameter: the name of the parameter that is its weight, None where the second operand is none.
    """

    layer: str
    operation: str
    call: int
    parameter: str | None

    @property
    def name(self) -> str:
        """Layer, operation and call in one word."""
        return call_name(self.layer, self.operation, self.call)


OneToOne = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Quantizers:
    """What is done to the tensors of one call; None leaves a tensor as it is. Shapes and dtypes stay.

    Autograd goes through what is done in the forward pass, which so brings its own straight-through gradients and may
    have parameters of its own.

    Attributes:
        input: to x in the forward pass.
        weight: to W in the forward pass.
        output: to the product in the forward pass.
        operands: x and W, as they came, to those that the backward products are computed from; by default those of the
            forward pass.
        error: dLoss/d(product) to its copies for dW and for dx.
        gradient: to dW.
        bias_gradient: to the bias's gradient, which is the sum of the error as it came.
    """

    input: OneToOne | None = None
    weight: OneToOne | None = None
    output: OneToOne | None = None
    operands: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    error: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    gradient: OneToOne | None = None
    bias_gradient: OneToOne | None = None


Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _graph(product: Product, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[list[Tensor], Tensor]:
    """The product of copies that autograd does not connect with anything else, and those copies."""
    own = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    with torch.enable_grad():
        return own, product(own[0], own[1], own[2] if bias is not None else None)


class _Swapped:
    """Saves the operands of a product as places, so that its backward pass finds others there
    (torch.autograd.graph.saved_tensors_hooks).

    complete: whether all that was saved are views of the operands; else others cannot take their places.
    """

    def __init__(self, operands: list[Tensor]):
        self._operands = operands
        self._of = {t.untyped_storage().data_ptr(): k for k, t in enumerate(operands)}
        self.complete = len(self._of) == len(operands)
        self.others: list[Tensor] = []

    def pack(self, saved: Tensor) -> Any:
        """The operand's number and how the saved tensor lies in it."""
        k = self._of.get(saved.untyped_storage().data_ptr())
        if k is None:
            self.complete = False
            return saved
        return k, saved.size(), saved.stride(), saved.storage_offset() - self._operands[k].storage_offset()

    def unpack(self, packed: Any) -> Tensor:
        """The same view of the operand that is now in its place."""
        if isinstance(packed, Tensor):
            return packed
        k, size, stride, offset = packed
        operand = self.others[k]
        return operand.as_strided(size, stride, offset + operand.storage_offset())

    def put(self, others: tuple[Tensor, ...]) -> None:
        """Other operands, from now on."""
        self.others = [
            t
            if t.stride() == own.stride()
            else torch.empty_strided(own.shape, own.stride(), dtype=own.dtype, device=own.device).copy_(t)
            for t, own in zip(others, self._operands, strict=True)
        ]


class _Compute(torch.autograd.Function):
    """The product, whose backward pass is torch's own, from the operands and errors that the quantizers give."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        raw: tuple[Tensor, Tensor],
        product: Product,
        quantizers: Quantizers,
    ) -> Tensor:
        ctx.quantizers, ctx.product, ctx.bias = quantizers, product, bias
        if quantizers.operands is None:
            ctx.swapped, ctx.raw = None, None
            ctx.own, ctx.result = _graph(product, x, weight, bias)
        else:
            ctx.swapped, ctx.raw = _Swapped([x.detach(), weight.detach()]), raw
            with torch.autograd.graph.saved_tensors_hooks(ctx.swapped.pack, ctx.swapped.unpack):
                ctx.own, ctx.result = _graph(product, x, weight, bias)
        return ctx.result.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, e: Tensor) -> Any:
        quantizers: Quantizers = ctx.quantizers
        own, result = ctx.own, ctx.result
        with torch._C.DisableTorchFunction():
            if ctx.raw is not None:
                assert quantizers.operands is not None
                operands = quantizers.operands(*ctx.raw)
                if ctx.swapped.complete:
                    ctx.swapped.put(operands)
                else:
                    # A product that keeps something else, such as a copy of an operand, is computed again.
                    own, result = _graph(ctx.product, *operands, ctx.bias)
            for_weight, for_input = (e, e) if quantizers.error is None else quantizers.error(e)
        found: list[Tensor | None] = [None, None, None]
        needed = [k for k in range(len(own)) if ctx.needs_input_grad[k]]
        copies = (for_input, for_weight, e)
        # One call for each copy of the error, so that full precision is what torch computes.
        while needed:
            same = [k for k in needed if copies[k] is copies[needed[0]]]
            needed = [k for k in needed if k not in same]
            # What torch.autograd.grad calls; a mode that sees what is computed again (checkpointing) would be off
            # inside grad itself.
            gradients = _engine_run_backward(
                (result,),
                (copies[same[0]],),
                True,
                False,
                tuple(own[k] for k in same),
                allow_unreachable=True,
                accumulate_grad=False,
            )
            for k, gradient in zip(same, gradients, strict=True):
                found[k] = gradient
        with torch._C.DisableTorchFunction():
            if found[1] is not None and quantizers.gradient is not None:
                found[1] = quantizers.gradient(found[1])
            if found[2] is not None and quantizers.bias_gradient is not None:
                found[2] = quantizers.bias_gradient(found[2])
        return *found, None, None, None


def operands_of(name: str, args: Any, kwargs: Any) -> tuple[Tensor, Tensor, Tensor | None, Callable[..., Product]]:
    """Input, weight and bias of a call of one of `OPERATIONS`, and what makes a product of them out of the function."""
    arguments, given = list(args), dict(kwargs)
    names = (
        ("input", "weight", "bias")
        if name in CONVOLUTIONS or name == "linear"
        else ("input", "mat2" if name in ("mm", "bmm") else "other")
    )
    found = [arguments.pop(0) if arguments else given.pop(key, None) for key in names]
    x, weight, bias = found if len(found) == 3 else (*found, None)

    def product_of(function: Any) -> Product:
        if len(found) == 3:
            return lambda x, w, b: function(x, w, b, *arguments, **given)
        return lambda x, w, _: function(x, w, *arguments, **given)

    return x, weight, bias, product_of


def compute(product: Product, x: Tensor, weight: Tensor, bias: Tensor | None, quantizers: Quantizers) -> Tensor:
    """The product of the quantized input and weight, with gradients from what the quantizers make of the errors."""
    raw = x.detach(), weight.detach()
    if quantizers.input is not None:
        x = quantizers.input(x)
    if quantizers.weight is not None:
        weight = quantizers.weight(weight)
    if torch.is_grad_enabled():
        result: Tensor = _Compute.apply(x, weight, bias, raw, product, quantizers)
    else:
        result = product(x, weight, bias)
    return result if quantizers.output is None else quantizers.output(result)
