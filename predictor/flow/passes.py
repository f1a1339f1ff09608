"""One forward pass of a network: where it is, what it has counted, and where its tensors come from."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from predictor.flow.memory import address_of
from predictor.flow.origins import Made, Origins
from predictor.flow.sites import SiteCounts


class Pass:
    """What a data flow knows of one forward pass.

    Attributes:
        number: of all passes of the flow.
        layers: the modules that are being carried out, the network itself first.
        calls: how often each operation of each layer has had a point.
        site_counts: how often it could be a site.
        origins: what the tensors that do not depend on the input are made of.
        from_input: the tensors that depend on the input.
        learned: those that need no gradient only because the parameters that made them are frozen.
        input_memory: where the network's inputs lie, while parts are computed again from other tensors in that memory.
    """

    def __init__(self, origins: Origins, number: int):
        self.number, self.origins = number, origins
        self.layers = [""]
        self.calls: dict[tuple[str, str], int] = {}
        self.site_counts = SiteCounts()
        self.from_input: Any = WeakIdKeyDictionary()
        self.learned: Any = WeakIdKeyDictionary()
        self.input_memory: set[int] = set()

    def following(self) -> Pass:
        """The next one. It shares nothing, since an earlier pass of the same loss may be asked for in the backward
        pass."""
        return Pass(self.origins.fresh(), self.number + 1)

    def place(self) -> Pass:
        """The same pass, which counts on from here by itself."""
        taken = copy.copy(self)
        taken.layers, taken.calls, taken.site_counts = list(self.layers), dict(self.calls), copy.copy(self.site_counts)
        return taken

    def know_inputs_by_memory(self) -> None:
        """What is computed again starts from other tensor objects in the inputs' memory."""
        self.input_memory = {address_of(t) for t in self.from_input} - {0}

    @property
    def layer(self) -> str:
        """The module that is being carried out, "" for the network itself."""
        return self.layers[-1]

    def count(self, operation: str) -> int:
        """How often an operation of this layer has had a point before."""
        key = self.layer, operation
        call = self.calls.get(key, 0)
        self.calls[key] = call + 1
        return call

    def depends_on_input(self, tensors: Iterable[Tensor]) -> bool:
        """Whether one of them does, or comes with a gradient from where nothing was seen."""
        return any(
            t in self.from_input
            or (t.grad_fn is not None and not self.origins.knows(t))
            or (self.input_memory and address_of(t) in self.input_memory)
            for t in tensors
        )

    def mark(self, tensors: Iterable[Tensor], made: Made | None) -> None:
        """What a call gave, remembered as what depends on the input (None), or as what it was made of."""
        for t in tensors:
            if made is None:
                self.from_input[t] = True
                self.origins.forget(t)
            elif not isinstance(t, nn.Parameter) and t not in self.from_input:
                self.origins.mark(t, made)
