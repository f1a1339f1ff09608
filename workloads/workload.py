"""What is ranked on: a network, its mini-batches and its loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from numeric_formats.checks import at_least
from workloads.calls import Asked, call
from workloads.copies import copied
from workloads.minibatches import HALVES, in_float32

Batch = Any
"""Whatever the loss takes: usually (inputs, targets); tensors, or tuples, lists and dicts of them."""

Batches = Sequence[Batch] | Callable[[int], Sequence[Batch]]
"""Mini-batches ready made, or a function from a batch size to them."""


@dataclass(frozen=True, eq=False)
class Workload:
    """A pretrained network with what is needed to compute its weight gradients.

    Attributes:
        name: what reports print.
        model: any torch.nn.Module, on the CPU (predictor/device.py moves it), float32, with its weights loaded.
        batches: mini-batches of training data, or a function from a batch size to them.
        loss: `loss(model, batch)` calls the model once and returns a scalar tensor; only what happens inside the model
            is quantized.
        train: mini-batches for training.
        test: mini-batches for evaluation.
        metric: `metric(model, batch)`, a number whose mean over `test` describes the network, such as accuracy or bits
            per character; it is reported.
        lower_is_better: of the metric, for schemes that report that of the best epoch.
        batch_size: what a ranking uses unless it is told otherwise, where `batches` is a function.
        source: the name by which `workloads.load` makes it again, set there; worker processes make theirs by it.

    Raises:
        TypeError: where an argument is of the wrong kind.
    """

    name: str
    model: nn.Module
    batches: Batches
    loss: Callable[[nn.Module, Batch], Tensor]
    train: Batches | None = field(default=None, kw_only=True)
    test: Batches | None = field(default=None, kw_only=True)
    metric: Callable[[nn.Module, Batch], float] | None = field(default=None, kw_only=True)
    lower_is_better: bool = field(default=False, kw_only=True)
    batch_size: int = field(default=64, kw_only=True)
    source: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"the name of a workload is {self.name!r}; a string is needed")
        if not isinstance(self.model, nn.Module):
            raise TypeError(
                f"the model of workload {self.name} is a {type(self.model).__name__}; a torch.nn.Module is needed"
            )
        if any(t.dtype in HALVES for t in (*self.model.parameters(), *self.model.buffers())):
            # Sums and comparisons of gradients are those of float32; the caller's own network stays as it is.
            object.__setattr__(self, "model", copied(self.model).float())
        if not callable(self.loss):
            raise TypeError(
                f"the loss of workload {self.name} is {self.loss!r}; a function of (model, batch) is needed"
            )
        for role, batches in (("batches", self.batches), ("train", self.train), ("test", self.test)):
            required = role == "batches"
            if not (callable(batches) or isinstance(batches, Sequence) or (batches is None and not required)):
                raise TypeError(
                    f"{role} of workload {self.name} is a {type(batches).__name__}; a sequence of mini-batches, or a "
                    "function from a batch size to one, is needed"
                )

    def require_numbers(self) -> None:
        """Refuse a network that nothing can be computed with.

        Raises:
            ValueError: names a parameter or buffer without numbers (lazy, on the meta device), or that is quantized or
                sparse.
        """
        for name, t in (*self.model.named_parameters(), *self.model.named_buffers()):
            wrong = (
                "has no shape yet: call the network once, as its lazy layers need"
                if is_lazy(t)
                else "is on the meta device and holds no numbers: load its weights"
                if t.is_meta
                else "is quantized: give the network before its quantization"
                if t.is_quantized
                else f"is {t.layout}: make it dense"
                if t.layout is not torch.strided
                else ""
            )
            if wrong:
                raise ValueError(f"{name} of the model of workload {self.name} {wrong}")

    def loss_of(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a network (the workload's, or another in its place) on a mini-batch; ValueError of one line where
        that fails."""
        return call(f"the loss of workload {self.name}", model, self.loss, model, batch)

    def metric_of(self, model: nn.Module, batch: Batch) -> float:
        """Its metric, likewise.

        Raises:
            ValueError: where that fails, or there is none.
        """
        if self.metric is None:
            raise ValueError(f"workload {self.name} has no metric")
        return call(f"the metric of workload {self.name}", model, self.metric, model, batch)

    def minibatches(self, batch_size: int | None = None) -> Sequence[Batch]:
        """All mini-batches of `batches`, at a batch size where they can be made at one.

        Raises:
            ValueError: where there are none, and for a batch size of those that are ready made.
        """
        if callable(self.batches):
            size = self.batch_size if batch_size is None else batch_size
            at_least(f"batch size {size}", size)
            made = call(f"making mini-batches of workload {self.name}", self.model, self.batches, size)
        elif batch_size is not None:
            raise ValueError(
                f"batch size {batch_size} was asked for, but the mini-batches of workload {self.name} are ready made; "
                "give it a function from a batch size to mini-batches, or leave the batch size out"
            )
        else:
            made = self.batches
        if not len(made):
            raise ValueError(f"workload {self.name} has no mini-batches" + (f" of {batch_size}" if batch_size else ""))
        return in_float32(made if isinstance(made, list) else Asked(f"workload {self.name}", self.model, made))
