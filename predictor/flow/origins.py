"""What the weight of a product is: a parameter, part or another layout of one, or numbers computed from some."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from predictor.flow.operations import CHOOSES, MOVES


class Place(NamedTuple):
    """Where a view lies in its parameter's memory: elements before it, sizes and strides."""

    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Origin:
    """Where a weight comes from.

    Attributes:
        parameters: names of all parameters that it is made of.
        name: of the parameter, with its place behind it where only a part is used; None for what is no view of one.
        place: in the one parameter of which it is a view; None for another.
        direct: whether it is the parameter itself, and no view.
        computed: whether its numbers are others than its parameters'.
    """

    parameters: tuple[str, ...]
    name: str | None
    place: Place | None
    direct: bool
    computed: bool

    @property
    def whole(self) -> bool:
        """Whether it is all of one parameter, in any layout."""
        return self.name is not None and self.parameters == (self.name,)


class Made(NamedTuple):
    """What a call that does not depend on the input was made of."""

    parameters: frozenset[str]
    computed: bool


def _blocks(size: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """The elements of a view, whatever the order of its axes: strides and counts, the largest stride first."""
    found: list[tuple[int, int]] = []
    for step, count in sorted(
        ((step, count) for count, step in zip(size, stride, strict=True) if count > 1 and step), reverse=True
    ):
        if found and found[-1][0] == step * count:
            found[-1] = step, count * found[-1][1]
        else:
            found.append((step, count))
    return found


def _named(name: str, parameter: Tensor, place: Place) -> str:
    """A parameter's name, and behind it which of its elements a view holds, where it does not hold all of them."""
    blocks = _blocks(place.size, place.stride)
    if not place.offset and blocks == _blocks(parameter.shape, parameter.stride()):
        return name
    if len(blocks) > 1:
        return f"{name}[{place.offset}; {' '.join(f'{count}x{step}' for step, count in blocks)}]"
    step, count = blocks[0] if blocks else (1, 1)
    return f"{name}[{place.offset}:{place.offset + (count - 1) * step + 1}" + (f":{step}]" if step > 1 else "]")


def _in_memory_of(t: Tensor, parameter: Tensor) -> bool:
    return t.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr()


class Origins:
    """Remembers what every tensor of a forward pass that does not depend on the input was made of.

    Attributes:
        computed: whether any tensor was computed from parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = dict(model.named_parameters())
        self._names = {id(parameter): name for name, parameter in self._parameters.items()}
        self._made: Any = WeakIdKeyDictionary()
        self.computed = False

    def knows(self, t: Tensor) -> bool:
        """Whether a tensor is made of parameters; views are known where nobody saw them made, too."""
        return t in self._made or id(t._base) in self._names

    def fresh(self) -> Origins:
        """For a new forward pass."""
        made = copy.copy(self)
        made._made, made.computed = WeakIdKeyDictionary(), False
        return made

    def forget(self, t: Tensor) -> None:
        """A tensor depends on the input after all."""
        self._made.pop(t, None)

    def mark(self, t: Tensor, made: Made) -> None:
        """A call gave a tensor."""
        self._made[t] = made
        self.computed |= made.computed and bool(made.parameters)

    def of_call(self, operation: str, inputs: Sequence[Tensor]) -> Made:
        """What the result of a call is made of."""
        known = [made for t in inputs if (made := self._of(t)) is not None]
        computed = operation not in MOVES and operation not in CHOOSES
        return Made(
            frozenset().union(*(made.parameters for made in known)), computed or any(made.computed for made in known)
        )

    def _of(self, t: Tensor) -> Made | None:
        found: Made | None = self._made.get(t)
        if found is None and (name := self._names.get(id(t), self._names.get(id(t._base)))) is not None:
            found = Made(frozenset((name,)), False)
        return found

    def of(self, t: Tensor) -> Origin | None:
        """Where a weight comes from; None where it is made of no parameter of the network."""
        made = self._of(t)
        if made is None or not made.parameters:
            return None
        names = tuple(sorted(made.parameters))
        parameter = self._parameters[names[0]]
        direct = t is parameter
        if made.computed or len(names) > 1 or not (direct or _in_memory_of(t, parameter)) or t.dtype != parameter.dtype:
            return Origin(names, None, None, False, made.computed)
        place = Place(int(t.storage_offset()) - int(parameter.storage_offset()), tuple(t.shape), tuple(t.stride()))
        return Origin(names, names[0] if direct else _named(names[0], parameter, place), place, direct, False)
