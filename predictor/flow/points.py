"""What a point is, and what happens at one. Where they are put: predictor/flow/dataflow.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


def call_name(layer: str, operation: str, call: int) -> str:
    """Layer, operation and call in one word."""
    return f"{layer}:{operation}" + (f"#{call}" if call else "")


@dataclass
class Point:
    """One output where data flow can be quantized.

    Attributes:
        index: its place in the forward pass.
        layer: the module it is in, "" for the network itself.
        operation: torch's name.
        call: how often this operation of this layer has run before in the forward pass.
        shape: of the output.
        exact: never quantized.
        two_terms: activations there get two terms (an input of the network).
        last: errors there get two terms, since no other point lies between it and an output of the network.
        sums: errors there are sums of branches that are rounded each by itself, and are not rounded (see
            predictor/flow/forks.py).
    """

    index: int
    layer: str
    operation: str
    call: int
    shape: tuple[int, ...]
    exact: bool = False
    two_terms: bool = False
    last: bool = False
    sums: bool = False

    @property
    def name(self) -> str:
        """Layer, operation and call in one word."""
        return call_name(self.layer, self.operation, self.call)


@dataclass(frozen=True)
class Skipped:
    """An operation without a point, and why."""

    layer: str
    operation: str
    shape: tuple[int, ...]
    reason: str


Quantizer = Callable[[Tensor, Point], Tensor]
"""Takes a tensor at a point and returns a new one of its shape; never writes into what it was given."""


class Pointed(Protocol):
    """What puts points on the parts of an operation that is carried out step by step."""

    def point(self, output: Tensor, operation: str) -> Tensor:
        """The quantized output of a part."""
        ...

    def product(
        self, function: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, once: bool = False
    ) -> Tensor:
        """A product, which may be a site, with its point. once: all calls with this weight in one layer are one
        site."""
        ...


class Rounding(Protocol):
    """What rounds at a point: the quantizers of a data flow."""

    activation: Quantizer | None
    error: Quantizer | None


def at_error(e: Tensor, flow: Rounding, point: Point) -> Tensor:
    """The error that a point hands on."""
    if torch.is_grad_enabled():
        # The loss holds a derivative, which is differentiated in its turn: its errors are errors too.
        handed: Tensor = _Error.apply(e, flow, point)
        return handed
    if flow.error is None or point.exact or point.sums:
        return e
    with torch._C.DisableTorchFunction():
        return flow.error(e, point)


class Rounded(torch.autograd.Function):
    """Forward: a -> Q_A(a). Backward: e -> Q_E(e)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, flow: Rounding, point: Point) -> Tensor:
        """x: any floating tensor."""
        ctx.flow, ctx.point = flow, point
        if flow.activation is None or point.exact:
            # A view of the input would break a later in-place operation.
            return x.clone()
        return flow.activation(x, point)

    @staticmethod
    def backward(ctx: Any, e: Tensor) -> Any:
        """e: of x's shape."""
        return at_error(e, ctx.flow, ctx.point), None, None


class _Error(torch.autograd.Function):
    """e -> Q_E(e), differentiable."""

    @staticmethod
    def forward(ctx: Any, e: Tensor, flow: Rounding, point: Point) -> Tensor:
        ctx.flow, ctx.point = flow, point
        return at_error(e.view_as(e), flow, point)

    @staticmethod
    def backward(ctx: Any, e: Tensor) -> Any:
        return at_error(e, ctx.flow, ctx.point), None, None


def mark_last(outputs: Iterable[Tensor]) -> set[Any]:
    """Mark the points from which an output is reached through no other point; the nodes of the graph between them."""
    waiting = [t.grad_fn for t in outputs if t.grad_fn is not None]
    between: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node in between:
            continue
        between.add(node)
        point = getattr(node, "point", None)
        if isinstance(point, Point):
            point.last = True
        else:
            waiting += [following for following, _ in node.next_functions if following is not None]
    return between
