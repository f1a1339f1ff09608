"""Weight gradients of one mini-batch, in full precision and with quantized data flow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from formats import Format
from formats.pairs import Candidate, formats_of
from predictor.effects import Effect
from predictor.flow.calls import dense, handing_over
from predictor.flow.coverage import Watch
from predictor.flow.dataflow import DataFlow
from predictor.flow.points import Point, Quantizer
from predictor.flow.sites import Site
from predictor.gradient.evaluation import evaluation_mode, same_passes
from predictor.gradient.freed import give_back
from predictor.gradient.quantizers import activation_quantizer, computed_weights, error_quantizer, round_in_dtype
from predictor.scheme import PAPER, Scheme
from workloads.calls import call
from workloads.workload import Batch, Workload

NORMALIZATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)


def measured_parameters(model: nn.Module) -> dict[int, str]:
    """Names of the parameters that count, by identity: two or more dimensions, not of a normalization layer, tied ones
    once."""
    normal = {
        id(p)
        for module in model.modules()
        if isinstance(module, NORMALIZATIONS)
        for p in module.parameters(recurse=False)
    }
    return {
        id(p): name for name, p in model.named_parameters() if p.ndim >= 2 and p.requires_grad and id(p) not in normal
    }


@overload
def in_reals(g: Tensor) -> Tensor: ...
@overload
def in_reals(g: Tensor | None) -> Tensor | None: ...
def in_reals(g: Tensor | None) -> Tensor | None:
    """A gradient as it is measured: one of complex numbers as pairs of real ones, whose angle is the same."""
    return torch.view_as_real(g) if g is not None and g.is_complex() else g


def layer_of(parameter: str) -> str:
    """The layer that holds a parameter, by their names; "" for the network itself."""
    return parameter.rpartition(".")[0]


See = Callable[[int, Tensor, Tensor], None]
"""Sees a gradient and what it is compared with, and the place of its parameter in `Gradients.names`."""


class Quantized(NamedTuple):
    """One quantized gradient.

    Attributes:
        effect: What was rounded.
        gradients: Of each measured parameter, in the order of `Gradients.names`; none where they were seen as they
            came.
        reference: What they are compared with: the full-precision gradients, or for E given A those with activations
            rounded.
        loss: That of the forward pass, less the full-precision one.
    """

    effect: Effect
    gradients: list[Tensor]
    reference: list[Tensor]
    loss: float


def shown(quantized: Quantized, see: See | None) -> Quantized:
    """The same, whose gradients were seen; none where they were seen as they came."""
    if see is not None:
        for number, found in enumerate(quantized.gradients):
            see(number, found, quantized.reference[number])
    return quantized


class Gradients:
    """The weight gradients of one mini-batch. Use as a context manager.

    Args:
        workload: whose network and loss.
        batch: the mini-batch.
        exact: layers kept in full precision.
        scheme: by which activations and errors are rounded.
        watched: whether the full-precision forward pass is watched below torch's functions (`flow.watch`).
        kept: whether the full-precision graph serves more backward passes, as effect E needs; else it is let go.
        pointed: whether that pass has points, so that quantized data flow differs from it by nothing else;
            products alone are quantized without.

    Attributes:
        names: of the parameters whose gradients are measured, in the order of their first use in the network.
        full: their full-precision gradients.
        weights: those of the measured parameters, by name, that may be rounded; those of layers kept exact are left
            out.
        flow: the points, after the full-precision forward pass.
        loss: the full-precision loss, with its graph where that is kept.

    Raises:
        ValueError: the loss does not call the network, is not a finite scalar, or reaches no parameter, or all of
            `full` is zero.
    """

    def __init__(
        self,
        workload: Workload,
        batch: Batch,
        *,
        exact: Sequence[str] = (),
        scheme: Scheme = PAPER,
        watched: bool = False,
        kept: bool = True,
        pointed: bool = True,
    ):
        workload.require_numbers()
        self.workload, self.batch, self.scheme, self.kept, self.pointed = workload, batch, scheme, kept, pointed
        self.flow = DataFlow(workload.model, exact)
        self.flow.branches = scheme.branches
        if watched:
            self.flow.watch = Watch(lambda: self.flow.layer)
        self.names: list[str] = []
        self.full: list[Tensor] = []
        self.weights: dict[str, Tensor] = {}
        self._measured: list[Tensor] = []
        self._computed: set[str] = set()
        self._loss: Tensor | None = None
        self._own: list[tuple[Tensor, Tensor]] = []
        self._open: Any = None
        self._rounded_by: Any = WeakIdKeyDictionary()

    def __enter__(self) -> Gradients:
        self._open = evaluation_mode(self.flow.model)
        self._open.__enter__()
        self.flow.__enter__()
        try:
            self._start()
            self._check_full()
            give_back()  # the passes that follow make what they need of other sizes
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()  # a second time, should Ctrl-C have come in the middle of the first
        self._loss = None
        self.flow.__exit__()
        self._open.__exit__(None, None, None)
        give_back()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside, the network is as it is without any flow, in evaluation mode."""
        self.flow.__exit__()
        try:
            yield
        finally:
            self.flow.__enter__()

    def _start(self) -> None:
        # Points copy what they see.
        self.flow.pointed = self.pointed or self.flow.watch is not None
        self._loss = self.forward(None)
        self.flow.pointed = True
        if not self._loss.isfinite():
            raise ValueError(
                f"the loss of workload {self.workload.name} is {self._loss.item()} in full precision; "
                "its weights or data are damaged"
            )
        measured = measured_parameters(self.flow.model)
        used = [p for p in self.flow.parameters if id(p) in measured]
        if not used:
            raise ValueError(
                f"workload {self.workload.name}: no parameter of two or more dimensions takes part in the loss"
            )
        found = self._derived(self._loss, used, keep=self.kept)
        if not self.kept:
            self._loss = self._loss.detach()
        kept = [(p, g) for p, g in zip(used, found, strict=True) if g is not None]
        if not kept:
            raise ValueError(
                f"workload {self.workload.name}: the loss does not depend on any parameter of two or more dimensions"
            )
        self._measured = [p for p, _ in kept]
        origins = [site.origin for site in self.flow.computed.values() if site.origin is not None]
        self._computed = {name for origin in origins for name in origin.parameters}
        self.names = [measured[id(p)] for p, _ in kept]
        named = zip(self.names, self._measured, strict=True)
        self.weights = {name: p for name, p in named if not self.flow.is_exact(layer_of(name))}
        self.full = [g for _, g in kept]

    def _check_full(self) -> None:
        """ValueError where the full-precision gradient is not finite, or zero."""
        for name, g in zip(self.names, self.full, strict=True):
            if not g.isfinite().all():
                raise ValueError(f"workload {self.workload.name}: the full-precision gradient of {name} is not finite")
        if not any(g.any() for g in self.full):
            raise ValueError(
                f"workload {self.workload.name}: the full-precision gradient is zero on a mini-batch, "
                "and no angle to it exists"
            )

    @property
    def loss(self) -> Tensor:
        """The full-precision loss; see the class."""
        assert self._loss is not None  # set on entering
        return self._loss

    def forward(self, activation: Quantizer | None) -> Tensor:
        """The loss of a forward pass with activations rounded by a quantizer, or in full precision; for `backward`."""
        self.flow.activation = activation
        self.flow.points = []
        name = self.workload.name
        with torch.enable_grad(), same_passes(self.flow.model):
            loss = self.workload.loss_of(self.flow.model, self.batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            given = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(type(loss).__name__)
            raise ValueError(f"the loss of workload {name} is {given}; a tensor of one element is needed")
        self._check_called()
        if not loss.requires_grad:
            raise ValueError(f"the loss of workload {name} does not depend on any parameter that requires a gradient")
        self._rounded_by[loss] = activation
        return loss

    def _derived(self, loss: Tensor, parameters: Sequence[Tensor], keep: bool) -> tuple[Tensor | None, ...]:
        """The derivatives, as they are measured."""
        what = f"the gradient of workload {self.workload.name}"
        found = call(what, self.flow.model, self.flow.gradients, loss, parameters, keep)
        return tuple(map(in_reals, found))

    def _check_called(self) -> None:
        """ValueError where the loss did not call the network, or the network saw nothing of the mini-batch."""
        name, flow = self.workload.name, self.flow
        if not flow.passes:
            raise ValueError(
                f"the loss of workload {name} did not call the model that it was given: it has to call model(...) "
                "itself, since what a method of it computes is not seen"
            )
        if not flow.saw_input:
            raise ValueError(
                f"the model of workload {name} was called without a tensor that can be found: give it tensors, or "
                "mappings, sequences, named tuples or data classes that hold them"
            )
        if not flow.gave_tensor:
            raise ValueError(
                f"the model of workload {name} gives a {flow.gave}, in which no tensor is found: let it give tensors, "
                "or mappings, sequences, named tuples or data classes that hold them"
            )
        if (flow.pointed and not flow.points) or not flow.gave_output:
            raise ValueError(
                f"what the model of workload {name} gives does not depend on the mini-batch that it was given, so that "
                "there is nothing to round"
            )

    def backward(self, loss: Tensor, error: Quantizer | None, keep: bool, see: See | None = None) -> list[Tensor]:
        """The gradients of a loss, in the order of `names`, with errors rounded by a quantizer, or in full precision.

        keep: whether the graph serves another backward pass. A graph made while weights were rounded needs them rounded
        again.
        see: sees each beside the full-precision one as soon as it is computed; none is returned then.
        """
        # What is computed again (checkpointing) is rounded as in the forward pass of this loss, not of the last one.
        self.flow.error, self.flow.activation = error, self._rounded_by[loss]
        try:
            if see is not None:
                self._show(loss, keep, see)
                return []
            found = self._derived(loss, self._measured, keep)
        finally:
            self.flow.error = None
        return [torch.zeros_like(g) if q is None else q for q, g in zip(found, self.full, strict=True)]

    def _show(self, loss: Tensor, keep: bool, see: See) -> None:
        left = dict(enumerate(self.full))

        def seen(number: int, gradient: Tensor) -> None:
            see(number, in_reals(dense(gradient)), left.pop(number))

        with handing_over(self._measured, seen):
            self._derived(loss, self._measured, keep)
        for number, full in left.items():
            see(number, torch.zeros_like(full), full)

    @contextmanager
    def rounded_weights(self, format: Format, names: Iterable[str] | None = None) -> Iterator[None]:
        """Inside, these of `weights`, by default all, hold their rounded values; gradients are taken with respect to
        those (straight-through). Where a product's weight is computed from some of them, that is rounded instead.

        The parameters' own storage is put aside and put back, so that not a bit of it changes, whatever happens inside.
        """
        wanted = set(self.weights if names is None else names)
        chosen = [self.weights[name] for name in self.weights if name in wanted - self._computed]
        rounded = [round_in_dtype(format, p.detach()) for p in chosen]
        try:
            if wanted & self._computed:
                self.flow.site = computed_weights(format, wanted)
            self._own = [(p, p.data) for p in chosen]
            for p, values in zip(chosen, rounded, strict=True):
                p.data = values
            yield
        finally:
            self._restore()

    def _restore(self) -> None:
        self.flow.site = None
        for p, values in self._own:
            p.data = values
        self._own = []

    def observe(self, activation: Callable[[Tensor, Point], None], error: Callable[[Tensor, Point], None]) -> None:
        """Show every activation and error of a full-precision pass to two functions."""

        def see(function: Callable[[Tensor, Point], None]) -> Quantizer:
            def pass_on(x: Tensor, point: Point) -> Tensor:
                function(x, point)
                return x.clone()

            return pass_on

        loss = self.forward(see(activation))
        self._rounded_by[loss] = None  # what is computed again is not shown twice
        self.backward(loss, see(error), keep=False, see=lambda *_: None)

    @cached_property
    def products(self) -> list[Site]:
        """The products of the network with a weight, those of exact layers among them, in the order in which they are
        computed; from a forward pass of its own."""
        found: list[Site] = []
        exact, self.flow.exact = self.flow.exact, frozenset()
        self.flow.site, self.flow.pointed = found.append, False  # which leaves every product as it is
        try:
            self.forward(None)
        finally:
            self.flow.site, self.flow.pointed, self.flow.exact = None, True, exact
        return [site for site in found if site.origin is not None]

    def quantized(self, format: Candidate, effects: Sequence[Effect], see: See | None = None) -> Iterator[Quantized]:
        """The quantized gradients for each effect but OPERANDS (`predictor.recipes`), in the order of `Effect`.

        Effect E uses the forward pass that all formats share; A, AE and E given A share one of their own. Weights
        are rounded as the format itself says, and hold their own values whenever a gradient is handed out. see: sees
        each gradient and what it is compared with as soon as it is computed; they are then let go.
        """
        for_activation, for_error = formats_of(format)
        activation = activation_quantizer(for_activation, self.scheme)
        error = error_quantizer(for_error, self.scheme)
        if Effect.E in effects:
            yield Quantized(Effect.E, self.backward(self.loss, error, keep=True, see=see), self.full, 0.0)
        if {Effect.A, Effect.AE, Effect.E_GIVEN_A} & set(effects):
            yield from self._with_activations(activation, error, effects, see)
        for effect, rounded in ((Effect.W, (None, None)), (Effect.WAE, (activation, error))):
            if effect in effects:
                with self.rounded_weights(for_activation):
                    loss = self.forward(rounded[0])
                    found = self.backward(loss, rounded[1], keep=False, see=see)
                yield Quantized(effect, found, self.full, self.more(loss))

    def _with_activations(
        self, activation: Quantizer, error: Quantizer, of: Sequence[Effect], see: See | None
    ) -> Iterator[Quantized]:
        """A, AE and E given A, from one forward pass."""
        loss, given, alone = self.forward(activation), Effect.E_GIVEN_A in of, []
        # E given A compares two quantized gradients, of which the first is kept until the second is there.
        at_once = None if given else see
        if given or Effect.A in of:
            alone = self.backward(loss, None, keep=given or Effect.AE in of, see=at_once)
        if Effect.A in of:
            yield shown(Quantized(Effect.A, alone, self.full, self.more(loss)), see)
        if given or Effect.AE in of:
            both = self.backward(loss, error, keep=False, see=at_once)
            more = self.more(loss)
            if Effect.AE in of:
                yield shown(Quantized(Effect.AE, both, self.full, more), see)
            if given:
                yield shown(Quantized(Effect.E_GIVEN_A, both, alone, more), see)

    def more(self, loss: Tensor) -> float:
        """A loss, less the full-precision one."""
        return loss.item() - self.loss.item()
