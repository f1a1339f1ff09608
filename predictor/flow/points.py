"""What a point is, what happens at one, and the tensors that a network is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

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
    """

    index: int
    layer: str
    operation: str
    call: int
    shape: tuple[int, ...]
    exact: bool = False
    two_terms: bool = False
    last: bool = False

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


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from tensors_in(entry)
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same nesting with `function` applied to every tensor in it."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(function, entry) for entry in value))
    if type(value) in (tuple, list):
        return type(value)(map_tensors(function, entry) for entry in value)
    if type(value) is dict:
        return {key: map_tensors(function, entry) for key, entry in value.items()}
    return value
