"""Sites: products of a network's input with its weights, computed from tensors that a training method quantizes
(docs/definitions/prediction.md section 1).

A point rounds what an operation gives; a site decides what an operation is computed from, in the forward pass and in
both products of the backward pass. No module of the network is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward

from predictor.flow.operands import Labels, Operands, Product
from predictor.flow.origins import Origin, Place
from predictor.flow.points import call_name


@dataclass(frozen=True)
class Site:
    """One call of a convolution, linear layer or matrix product.

    Attributes:
        layer: the module it is in.
        operation: torch's name.
        call: how often this operation of this layer has run before in the forward pass.
        origin: what its weight is made of; None where both factors depend on the input, or the weight is made of no
            parameter.
        output_axes: the weight's axes that the product has too, as output channels.
        channel_axis: the (last) axis of output channels in the product, counted from its end.
        time: number of the data flow's forward pass; what is computed again (checkpointing) has that of its own pass.
        labels: of the axes in this call; None for convolutions.
    """

    layer: str
    operation: str
    call: int
    origin: Origin | None
    output_axes: tuple[int, ...]
    channel_axis: int
    time: int = field(default=0, compare=False)
    labels: Labels | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Layer, operation and call in one word."""
        return call_name(self.layer, self.operation, self.call)

    @property
    def parameter(self) -> str | None:
        """The name of the parameter that is its weight, in any layout; None where it is part of one, or computed."""
        return self.origin.name if self.origin is not None and self.origin.whole else None

    @property
    def weight(self) -> str | None:
        """What its weight is called: see `Origin.name`; one that is no view of a parameter has the site's name."""
        if self.origin is None:
            return None
        return f"{self.name}.weight" if self.origin.name is None else self.origin.name


def site_from_plain(plain: dict[str, Any]) -> Site:
    """A site from what dataclasses.asdict made of it, as JSON keeps that."""
    origin = plain["origin"]
    if origin is not None:
        place = origin["place"]
        placed = None if place is None else Place(place[0], tuple(place[1]), tuple(place[2]))
        origin = Origin(**{**origin, "parameters": tuple(origin["parameters"]), "place": placed})
    labels = None if plain.get("labels") is None else Labels(*map(tuple, plain["labels"]))
    return Site(**{**plain, "origin": origin, "output_axes": tuple(plain["output_axes"]), "labels": labels})


class SiteCounts:
    """How often each operation of each layer has run in a forward pass."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], int] = {}
        self._of_weight: dict[tuple[str, str, int], int] = {}

    def __copy__(self) -> SiteCounts:
        """The counts as they are now."""
        made = SiteCounts()
        made._calls, made._of_weight = dict(self._calls), dict(self._of_weight)
        return made

    def next(self, layer: str, operation: str, weight: Tensor, once: bool) -> int:
        """The number of a call. once: the same as of earlier calls with the weight."""
        key = layer, operation, id(weight)
        call = self._of_weight.get(key) if once else None
        if call is None:
            call = self._of_weight[key] = self._calls.get((layer, operation), 0)
            self._calls[layer, operation] = call + 1
        return call


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
        once: whether there is one backward pass, after which nothing is kept for another.
    """

    input: OneToOne | None = None
    weight: OneToOne | None = None
    output: OneToOne | None = None
    operands: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    error: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    gradient: OneToOne | None = None
    bias_gradient: OneToOne | None = None
    once: bool = False

    @property
    def quantize(self) -> bool:
        """Whether a factor of the product or of those of its backward pass is quantized."""
        return any(each is not None for each in (self.input, self.weight, self.operands, self.error))


def _graph(product: Product, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[list[Tensor], Tensor]:
    """The product of copies that autograd does not connect with anything else, and those copies."""
    own = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    with torch.enable_grad():
        return own, product(own[0], own[1], own[2] if bias is not None else None)


def _let_go(t: Tensor) -> None:
    """Free the numbers of a tensor of which autograd needs no more than the shape."""
    t.data = t.new_empty(()).expand(t.shape)


class _Swapped:
    """Saves the operands of a product as places, so that its backward pass finds others there
    (torch.autograd.graph.saved_tensors_hooks).

    complete: whether all that was saved are views of the operands; else others cannot take their places.
    """

    def __init__(self, operands: list[Tensor]):
        self._places = [(t.stride(), t.storage_offset()) for t in operands]
        self._of = {t.untyped_storage().data_ptr(): k for k, t in enumerate(operands)}
        self.complete = len(self._of) == len(operands)
        self.others: list[Tensor] = []

    def pack(self, saved: Tensor) -> Any:
        """The operand's number and how the saved tensor lies in it."""
        k = self._of.get(saved.untyped_storage().data_ptr())
        if k is None:
            self.complete = False
            return saved
        return k, saved.size(), saved.stride(), saved.storage_offset() - self._places[k][1]

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
            t if t.stride() == stride else torch.empty_strided(t.shape, stride, dtype=t.dtype, device=t.device).copy_(t)
            for t, (stride, _) in zip(others, self._places, strict=True)
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
        site: Site,
    ) -> Tensor:
        ctx.quantizers, ctx.product, ctx.bias, ctx.site = quantizers, product, bias, site
        if quantizers.operands is None:
            ctx.swapped, ctx.raw = None, None
            ctx.own, ctx.result = _graph(product, x, weight, bias)
        else:
            ctx.swapped, ctx.raw = _Swapped([x.detach(), weight.detach()]), raw
            with torch.autograd.graph.saved_tensors_hooks(ctx.swapped.pack, ctx.swapped.unpack):
                ctx.own, ctx.result = _graph(product, x, weight, bias)
            # The backward products are computed from other operands.
            for t in ctx.own:
                _let_go(t)
        made = ctx.result.detach()
        _let_go(ctx.result)
        return made

    @staticmethod
    def backward(ctx: Any, e: Tensor) -> Any:
        quantizers: Quantizers = ctx.quantizers
        if torch.is_grad_enabled():
            raise ValueError(
                f"layer {ctx.site.layer or '(network)'}: the loss holds a derivative of the network, and what is "
                "quantized at a product has no second one; use formats for activations and errors, without a method "
                "and without weights that are computed"
            )
        own, result = ctx.own, ctx.result
        if quantizers.once:
            ctx.own = ctx.result = ctx.quantizers = None
        with torch._C.DisableTorchFunction():
            if ctx.raw is not None:
                assert quantizers.operands is not None
                operands = quantizers.operands(*ctx.raw)
                if ctx.swapped.complete:
                    ctx.swapped.put(operands)
                else:
                    # A product that keeps something else, such as a copy of an operand, is computed again.
                    own, result = _graph(ctx.product, *operands, ctx.bias)
                if quantizers.once:
                    ctx.raw = ()
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
        if quantizers.once:
            ctx.swapped = None
        return *found, None, None, None, None


def compute(operands: Operands, site: Site, quantizers: Quantizers, own_bias: bool) -> Tensor:
    """The product of the quantized input and weight, with gradients from what the quantizers make of the errors.

    own_bias: False where what is added depends on the network's input, and is no bias.
    """
    x, weight, bias, product = operands.x, operands.weight, operands.bias, operands.product
    raw = x.detach(), weight.detach()
    if not own_bias:
        quantizers = replace(quantizers, bias_gradient=None)
    if quantizers.input is not None:
        x = quantizers.input(x)
    if quantizers.weight is not None:
        weight = quantizers.weight(weight)
    if torch.is_grad_enabled():
        result: Tensor = _Compute.apply(x, weight, bias, raw, product, quantizers, site)
    else:
        result = product(x, weight, bias)
    return result if quantizers.output is None else quantizers.output(result)
