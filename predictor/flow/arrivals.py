"""What comes into a watched forward pass from where nothing is seen: another thread, an extension, a call around the
network.

Modes see one thread. What is computed elsewhere comes back in one of three ways: in memory that no operation in view
has made and that was not there before, as another content of memory that is known, or as a layer's call that no mode
sees. Each is listed, since whatever lies behind it has no point.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from threading import get_ident
from typing import Any
from unittest.mock import patch

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from predictor.flow.memory import ByMemory, address_of, shape_of
from predictor.flow.points import Skipped
from workloads.containers import tensors_in

MADE = "made where nothing is seen, as in another thread"
CHANGED = "changed where nothing is seen, as in another thread"
CALLED = "called where nothing is seen, as in another thread or outside of the network's own call"
BEHIND = "computed from what was made where nothing is seen"
LEAVES = "leaves torch; what is made of it there is not seen"
ELSEWHERE = frozenset({MADE, CHANGED, CALLED, BEHIND, LEAVES})
"""Reasons why there is no point, and why multiply-accumulates are not counted."""
CALL = "forward"
"""What a layer's call is named."""
TENSOR = "tensor"
"""What is named that came from no operation which autograd knows."""


def _holds_numbers(t: Tensor) -> bool:
    return (t.is_floating_point() or t.is_complex()) and bool(t.numel())


def _named(t: Tensor) -> str:
    """The operation that gave a tensor, as far as autograd knows."""
    return TENSOR if t.grad_fn is None else re.sub(r"^.*::|Backward\d*$", "", t.grad_fn.name()).lower()


def _changes(t: Tensor) -> int:
    return 0 if t.is_inference() else t._version


class Arrivals:
    """Of one forward pass.

    Args:
        layer: the one that is being carried out.
    """

    def __init__(self, layer: Callable[[], str]) -> None:
        self._layer = layer
        self._thread = get_ident()
        self._known: ByMemory[bool] = ByMemory()
        self._came: dict[int, tuple[Tensor, Skipped]] = {}
        self._behind: ByMemory[frozenset[int]] = ByMemory()
        self._made_behind: list[tuple[frozenset[int], Skipped]] = []
        self._changes: ByMemory[set[int]] = ByMemory()
        self._listed: dict[tuple[str, str, str], Skipped] = {}

    # Operations.

    def know(self, tensors: Iterable[Tensor]) -> None:
        """These were there before, or were made in view."""
        self._known.put(tensors, True)

    def __contains__(self, t: Tensor) -> bool:
        """Whether a tensor's memory is known."""
        return t in self._known

    def meet(self, tensors: Iterable[Tensor]) -> frozenset[int]:
        """An operation takes these. Returns what came from elsewhere that they are computed from."""
        sources: frozenset[int] = frozenset()
        for t in tensors:
            if not _holds_numbers(t) or not (address := address_of(t)):
                continue
            if t not in self:
                # Kept, so that nothing else comes to lie there.
                self._came.setdefault(address, (t, Skipped(self._layer(), _named(t), shape_of(t), MADE)))
                sources |= {address}
            sources |= self._behind.get(t) or frozenset()
        return sources

    def follow(self, sources: frozenset[int], outputs: Iterable[Tensor], operation: str) -> None:
        """An operation has made numbers from what came from elsewhere, or only moved them (no name)."""
        outputs = list(outputs)
        self._behind.put(outputs, sources)
        if operation and outputs:
            self._made_behind.append((sources, Skipped(self._layer(), operation, shape_of(outputs[0]), BEHIND)))

    # Calls of torch's functions, and of layers.

    def take(self, tensors: Iterable[Tensor]) -> None:
        """A call takes these: where they have changed since the last one, nobody saw it."""
        for t in tensors:
            seen = self._changes.get(t)
            if seen is not None and _changes(t) not in seen and _holds_numbers(t):
                self._list(Skipped(self._layer(), _named(t), shape_of(t), CHANGED))

    def leave(self, tensors: Iterable[Tensor]) -> None:
        """It took, or gives, these."""
        for t in tensors:
            seen = self._changes.get(t)
            if seen is None:
                self._changes.put([t], {_changes(t)})
            else:
                # Not all tensors in one memory share their count.
                seen.add(_changes(t))

    def called(self, layer: str, output: Any) -> None:
        """A layer was called, and no mode saw it."""
        self._list(Skipped(layer, CALL, next(map(shape_of, tensors_in(output)), ()), CALLED))

    def taken(self, name: str, t: Tensor) -> None:
        """A call takes numbers out of torch."""
        if _holds_numbers(t):
            self._list(Skipped(self._layer(), name, shape_of(t), LEAVES))

    def taken_in_a_thread(self, name: str, t: Tensor) -> None:
        """The same, where another thread may make it; the calls of this one are seen."""
        if get_ident() != self._thread:
            self.taken(name, t)

    # The end.

    @property
    def is_open(self) -> bool:
        """Whether something came that may have been there before the pass."""
        return bool(self._came)

    def settle(self, again: Again) -> None:
        """What another pass has met too was there before; all else is listed, with what was made of it."""
        new = {address for address in self._came if address not in again.met}
        for address in new:
            self._list(self._came[address][1])
        for sources, entry in self._made_behind:
            if sources & new:
                self._list(entry)
        self._came, self._made_behind = {}, []

    def _list(self, entry: Skipped) -> None:
        self._listed.setdefault((entry.layer, entry.operation, entry.reason), entry)

    @property
    def listed(self) -> tuple[Skipped, ...]:
        """Each once a layer, operation and reason."""
        return tuple(self._listed.values())


_TAKES_OUT = ("item", "tolist", "numpy", "__array__", "__float__", "__int__", "__dlpack__")


@contextmanager
def told_of(take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside, a function hears of numbers that any thread takes out of torch, which can come back as no tensor."""

    def telling(name: str) -> Callable[..., Any]:
        own = getattr(Tensor, name)

        @wraps(own)
        def take_out(t: Tensor, *args: Any, **kwargs: Any) -> Any:
            take(name.strip("_"), t)
            return own(t, *args, **kwargs)

        return take_out

    with ExitStack() as patches:
        for name in _TAKES_OUT:
            patches.enter_context(patch.object(Tensor, name, telling(name)))
        yield


class Again(TorchDispatchMode):
    """Sees what a pass without a flow meets.

    Attributes:
        met: addresses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch loads its compiler, for seconds

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.met.update(address_of(t) for t in tensors_in((args, kwargs)) if _holds_numbers(t))
        return function(*args, **(kwargs or {}))
