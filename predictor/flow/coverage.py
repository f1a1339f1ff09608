"""What of a network's forward pass has points, and what depends on the input and has none: counted below torch's
functions.

A function mode sees the calls that a network makes, not what happens inside custom functions, scripted functions or
function transforms, nor what comes without a gradient. The dispatcher sees every operation that is carried out. So one
pass is watched there: an operation that makes numbers from the input is accounted for where it belongs to a call that
got a point or is listed under "no point", and is listed itself where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from predictor.flow.arrivals import ELSEWHERE, Arrivals, told_of
from predictor.flow.memory import ByMemory, shape_of
from predictor.flow.operations import CHOOSES, MOVES
from predictor.flow.points import Skipped
from predictor.flow.sites import Quantizers, Site
from workloads.containers import tensors_in

_ALSO = """
to_copy unsafe_view reshape_alias conj neg_view copy_from lift slice unsafe_split native_dropout bernoulli resize
empty_strided local_scalar_dense is_all_true unsafe_index index max_pool2d_with_indices reshape_copy view_copy
slice_backward reflection_pad1d reflection_pad2d replication_pad2d new_empty_strided scalar_tensor
"""
"""Names that the dispatcher has beside torch's functions for what chooses or moves numbers."""
LIFTED = "lift_fresh"
"""What makes a tensor of what Python or numpy hold."""
_NOTHING_NEW = CHOOSES | MOVES | frozenset(_ALSO.split())


NOT_CHOSEN = "not among the layers that are quantized"
NO_WEIGHT = "no factor is made of parameters alone"
NO_SITE = "no product of two matrices that can be quantized"
"""Why a product is left in full precision."""


NO_GRADIENT = "needs no gradient"
"""Why an operation has no point."""


@dataclass(frozen=True)
class Coverage:
    """How much of a forward pass is quantized.

    Attributes:
        multiply_accumulates: of all products that depend on the input.
        covered: of those whose result has a point outside exact layers.
        unseen: operations that depend on the input, make new numbers and are neither at a point nor listed by their
            call, each once a layer.
    """

    multiply_accumulates: int
    covered: int
    unseen: tuple[Skipped, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all multiply-accumulates are counted, as none lies where nothing is seen."""
        return not any(entry.reason in ELSEWHERE for entry in self.unseen)

    @property
    def share(self) -> float:
        """Of the multiply-accumulates; 1 where there are none."""
        return self.covered / self.multiply_accumulates if self.multiply_accumulates else 1.0


@dataclass
class _Operation:
    layer: str
    name: str
    shape: tuple[int, ...]
    reason: str
    multiply_accumulates: int


@dataclass
class _Call:
    """A call of a torch function: whether it stands inside a function transform, and what it carried out."""

    transformed: bool
    operations: list[_Operation]


def _bare(name: str) -> str:
    return name.removeprefix("aten::").strip("_").partition(".")[0]


_MATRIX_OF = {"mv": 0, "addmv": 1, "dot": 0, "vdot": 0}
"""Products with a vector that torch's counter of operations leaves out: each element of this argument is used once."""


def _multiply_accumulates(function: Any, args: Any, kwargs: Any, result: Any) -> int:
    name = _bare(function._schema.name)
    if name in _MATRIX_OF:
        return int(args[_MATRIX_OF[name]].numel())
    if name == "addbmm":
        return int(args[1].numel() * args[2].shape[2])
    if name == "trilinear":
        shapes = [list(t.shape) for t in args[:3]]
        for shape, expanded in zip(shapes, args[3:6], strict=True):
            for d in expanded:
                shape.insert(d, 1)
        return math.prod(torch.broadcast_shapes(*shapes))
    count = flop_registry.get(function.overloadpacket)
    return 0 if count is None else int(count(*args, **kwargs, out_val=result)) // 2


class Watch(TorchDispatchMode):
    """Sees one forward pass. The data flow opens it, tells of each of its calls, and takes the inputs' tensors.

    Attributes:
        arrivals: what comes from where it does not see.
        sites: of the products that were quantized, by name.
    """

    def __init__(self, layer: Callable[[], str]) -> None:
        super().__init__()
        self._layer = layer
        self._from_input: ByMemory[bool] = ByMemory()
        self.arrivals = Arrivals(layer)
        self._calls: list[_Call] = []
        self._unseen: dict[tuple[str, str, str], Skipped] = {}
        self._total = 0
        self._covered = 0
        self._left: dict[tuple[str, str], Skipped] = {}
        self.sites: dict[str, Site] = {}
        self._products = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch loads its compiler, for seconds

    def begin(self, inputs: Any) -> None:
        """The tensors that a network is given."""
        self._mark(tensors_in(inputs))

    def end(self, outputs: Any) -> None:
        """What it gives back."""
        self.arrivals.meet(tensors_in(outputs))
        self.arrivals.take(tensors_in(outputs))

    def _mark(self, tensors: Iterable[Tensor]) -> None:
        tensors = list(tensors)
        self._from_input.put(tensors, True)
        self.arrivals.know(tensors)

    def depends(self, output: Any) -> bool:
        """Whether anything in an output was made from the input."""
        return any(t in self._from_input for t in tensors_in(output))

    def enter_call(self, given: Any = ()) -> None:
        """A call of a torch function begins, with these arguments."""
        self.arrivals.take(tensors_in(given))
        self._calls.append(_Call(torch._C._functorch.maybe_current_level() is not None, []))

    def leave_call(self, accounted: bool, covered: bool = False, site: Site | None = None) -> None:
        """It ends. accounted: it has a point or is listed. covered: what is there quantizes. site: of a product."""
        for operation in self._calls.pop().operations:
            self._total += operation.multiply_accumulates
            if covered:
                self._covered += operation.multiply_accumulates
            elif operation.multiply_accumulates:
                self._leave(operation, site)
            if not accounted:
                self._list(operation)

    @contextmanager
    def product(self, site: Site, quantizers: Quantizers | None) -> Iterator[None]:
        """A product is computed inside, at a site with these quantizers."""
        quantized = quantizers is not None and quantizers.quantize
        self.enter_call()
        self._products += 1
        try:
            yield
        finally:
            self._products -= 1
            if quantized:
                self.sites[site.name] = site
            # Whether it has a point is the surrounding call's business.
            self.leave_call(True, quantized, site)

    def _leave(self, operation: _Operation, site: Site | None) -> None:
        if site is None:
            name, reason = operation.name, NO_SITE if operation.reason == NO_GRADIENT else operation.reason
        elif site.origin is not None:
            name, reason = site.operation, NOT_CHOSEN
        else:
            name, reason = site.operation, NO_WEIGHT
        self._left.setdefault((operation.layer, name), Skipped(operation.layer, name, operation.shape, reason))

    @property
    def left(self) -> tuple[Skipped, ...]:
        """Products that nothing quantizes, each once a layer and operation."""
        return tuple(self._left.values())

    def _list(self, operation: _Operation) -> None:
        key = operation.layer, operation.name, operation.reason
        self._unseen.setdefault(key, Skipped(operation.layer, operation.name, operation.shape, operation.reason))

    def result(self) -> Coverage:
        """What was seen."""
        return Coverage(self._total, self._covered, (*self._unseen.values(), *self.arrivals.listed))

    def __enter__(self) -> Watch:
        self._takes_out = told_of(self.arrivals.taken_in_a_thread)
        self._takes_out.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._takes_out.__exit__(*exception)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # What is looked at here is no call of the network.
        with torch._C.DisableTorchFunction():
            name, given = _bare(function._schema.name), list(tensors_in((args, kwargs)))
            # Made this moment of what Python or numpy hold.
            sources = frozenset() if name == LIFTED else self.arrivals.meet(given)
            depends = any(t in self._from_input or (t.grad_fn is not None and t not in self.arrivals) for t in given)
        result = function(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            self._see(function, name, args, kwargs, result, depends, sources)
        return result

    def _see(
        self, function: Any, name: str, args: Any, kwargs: Any, result: Any, depends: bool, sources: frozenset[int]
    ) -> None:
        """What an operation gave. sources: what came from elsewhere that it is computed from."""
        outputs = list(tensors_in(result))
        self.arrivals.know(outputs)
        makes = [t for t in outputs if t.is_floating_point() or t.is_complex()] if name not in _NOTHING_NEW else []
        if sources and not depends:
            self.arrivals.follow(sources, makes or outputs, name if makes else "")
        # Quantized factors may have come from outside torch, and depend on the input all the same.
        if not depends and not self._products:
            return
        if depends:
            self._mark(outputs)
        if name == "local_scalar_dense" and args[0].is_floating_point():
            self.arrivals.taken("item", args[0])
        if makes:
            operation = _Operation(
                self._layer(),
                name,
                shape_of(makes[0]),
                _reason(makes[0], self._calls[-1] if self._calls else None),
                _multiply_accumulates(function, args, kwargs, result),
            )
            if self._calls:
                self._calls[-1].operations.append(operation)
            else:
                self._total += operation.multiply_accumulates
                self._list(operation)
                if operation.multiply_accumulates:
                    self._leave(operation, None)


def _reason(output: Tensor, call: _Call | None) -> str:
    """Why an operation has no point, as far as that shows while it is carried out."""
    if call is None:
        return "outside torch's Python functions, as in scripted code"
    if call.transformed:
        return "inside a function transform such as vmap"
    if output.is_complex():
        return "complex numbers"
    if not torch.is_grad_enabled():
        return "no gradient is recorded here (no_grad, or a function of its own)"
    return NO_GRADIENT
