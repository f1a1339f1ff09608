"""What is carried out for a network, and no more: torch's functions, the engine's backward pass. What fails in these
lines is the network's, or what it was given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, overload

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward


def carry_out(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """One call of a torch function, as the network made it."""
    return function(*args, **kwargs)


def run_backward(loss: Tensor, parameters: Sequence[Tensor], keep: bool) -> tuple[Tensor | None, ...]:
    """d loss / d parameters, None where it does not depend on one.

    What torch.autograd.grad calls. grad itself is a function that a mode sees, and the mode is then off inside.
    """
    found: tuple[Tensor | None, ...] = _engine_run_backward(
        (loss,),
        (torch.ones_like(loss),),
        keep,
        False,
        tuple(parameters),
        allow_unreachable=True,
        accumulate_grad=False,
    )
    return found


@contextmanager
def handing_over(parameters: Sequence[Tensor], take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Inside, a backward pass gives each of these parameters' gradients away as soon as it is whole, with its place;
    what it returns for them are zeros that take no memory."""

    def hook(number: int) -> Callable[[Tensor], Tensor]:
        def give(gradient: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():  # of what is done here no mode is to see anything
                take(number, gradient)
                if gradient.layout is not torch.strided:
                    return torch.zeros_like(gradient)  # of no elements
                return torch.zeros((), dtype=gradient.dtype, device=gradient.device).expand(gradient.shape)

        return give

    handles = [p.register_hook(hook(number)) for number, p in enumerate(parameters)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@overload
def dense(g: Tensor) -> Tensor: ...
@overload
def dense(g: Tensor | None) -> Tensor | None: ...
def dense(g: Tensor | None) -> Tensor | None:
    """A gradient with all its elements, as embeddings may give sparse ones."""
    return g if g is None or g.layout is torch.strided else g.to_dense()


def eagerly() -> AbstractContextManager[Any]:
    """Inside, what torch.compile has wrapped runs as it is written, since no mode sees into a compiled part."""
    # Nothing is compiled where the compiler was never loaded, which takes seconds.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
