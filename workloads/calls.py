"""Calling what a user gave (a loss, a metric, a network): whatever goes wrong in it is said in one line that names
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from numeric_formats.faults import frames_of, is_in_what_was_called, place_of_the_user
from numeric_formats.messages import one_line

Result = TypeVar("Result")


def call(what: str, model: nn.Module, function: Callable[..., Result], *args: Any) -> Result:
    """`function(*args)`.

    Args:
        what: What is called, for the message.
        model: The network that it calls.
        function: A user's, or one of ours that does no more than calling what a user gave.
        *args: Its arguments.

    Returns:
        What it returns.

    Raises:
        ValueError: It failed; the line says how, in which layer of the network, and at which line of the user's.
            Files that are missing and memory that ran out stay what they are, and so does what fails in our own code.
    """
    try:
        return function(*args)
    except Exception as error:  # a user's code may raise anything
        if not is_in_what_was_called(error):
            raise
        places = [*_layer(error, model), *place_of_the_user(error)]
        where = f" ({', '.join(places)})" if places else ""
        said = type(error).__name__ + (f": {one_line(error)}" if str(error) else "")
        raise ValueError(f"{what} fails: {said}{where}") from error


@dataclass(frozen=True, eq=False)
class Asked(Sequence[Any]):
    """A user's mini-batches, each made when it is asked for; what goes wrong then is a ValueError of one line."""

    what: str
    model: nn.Module
    batches: Sequence[Any]

    def __len__(self) -> int:
        return call(self.what, self.model, len, self.batches)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return Asked(self.what, self.model, call(self.what, self.model, self.batches.__getitem__, number))
        if not -len(self) <= number < len(self):
            raise IndexError(f"mini-batch {number} of {len(self)}")
        return call(f"mini-batch {number} of {self.what}", self.model, self.batches.__getitem__, number)


def _layer(error: Exception, model: nn.Module) -> list[str]:
    """The innermost module of the network that was at work, named; nothing where it was none."""
    names = {id(module): name for name, module in model.named_modules() if name}
    inside = [names[id(own)] for frame in frames_of(error) if id(own := frame.tb_frame.f_locals.get("self")) in names]
    return [f"in layer {inside[-1]}"] if inside else []
