"""What goes to another process that measures, and what comes back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from numeric_formats.messages import one_line
from predictor.device import device_of
from predictor.measuring.units import Measurement, Subject
from predictor.scheme import Scheme
from workloads import load
from workloads.containers import map_tensors
from workloads.digests import weights_digest
from workloads.workload import Batch, Workload


class WorkerError(ValueError):
    """A work unit could not be measured in another process, or not be sent there."""


Dumps = Callable[[Any], bytes]
"""What makes bytes of an object, as pickle.dumps does."""


@dataclass(frozen=True)
class Setup:
    """What another process needs beside mini-batch and unit.

    Attributes:
        name: the workload's.
        source: where the workload is loaded from; None where `content` holds it.
        content: the workload's pickled weights, or its pickled model and loss.
        weights: their SHA-256.
        exact: layers kept in full precision.
        scheme: by which activations and errors are rounded.
        parts: into how many micro-batches a mini-batch is split.
        precision: torch's of float32 products.
    """

    name: str
    source: str | None
    content: bytes
    weights: str
    exact: tuple[str, ...]
    scheme: Scheme
    parts: int
    precision: str

    @classmethod
    def of(cls, subject: Subject, dumps: Dumps = pickle.dumps) -> Setup:
        """Of what is measured; WorkerError where the workload has no source and cannot be pickled."""
        workload = subject.workload
        if workload.source is not None:
            content = dumps({name: here(value) for name, value in workload.model.state_dict().items()})
        else:
            remedy = (
                "give it as package.module:function or file.py:function, "
                "or its model and loss names at the top of a module"
            )
            model = workload.model if device_of(workload).type == "cpu" else deepcopy(workload.model).cpu()
            content = pickled((model, workload.loss), f"workload {workload.name}", remedy, dumps)
        return cls(
            workload.name,
            workload.source,
            content,
            weights_digest(workload.model),
            tuple(subject.exact),
            subject.scheme,
            subject.parts,
            torch.get_float32_matmul_precision(),
        )

    def subject(self) -> Subject:
        """What is measured, without its mini-batches; ValueError where the workload is another one."""
        if self.source is None:
            model, loss = pickle.loads(self.content)
        else:
            made = load(self.source)
            model, loss = made.model, made.loss
            # The weights of the process that began: what makes the workload may draw others each time.
            model.load_state_dict(pickle.loads(self.content))
        if weights_digest(model) != self.weights:
            raise ValueError(
                f"workload {self.name} has other weights in another process; "
                "give it a function that makes the same network"
            )
        torch.set_float32_matmul_precision(self.precision)
        return Subject(Workload(self.name, model, [], loss), self.exact, self.scheme, parts=self.parts)


def here(value: Any) -> Any:
    """A tensor on the CPU, from where another process takes it to a device of its own."""
    return value.cpu() if isinstance(value, Tensor) else value


def pickled(value: Any, what: str, remedy: str, dumps: Dumps = pickle.dumps) -> bytes:
    """The bytes of a value; WorkerError that says what cannot be sent, and the remedy."""
    try:
        return dumps(value)
    except Exception as error:  # whatever an object's own code raises
        raise WorkerError(f"{what} cannot be sent to another process ({one_line(error)}); {remedy}") from error


def compact(batch: Batch) -> Batch:
    """The same mini-batch on the CPU; tensors that are part of a larger one, which pickle would send whole, alone and
    with equal strides."""

    def own(given: Tensor) -> Tensor:
        tensor = given.cpu()
        if tensor.requires_grad or tensor.untyped_storage().nbytes() == tensor.nbytes:
            return tensor
        copy = tensor.clone()
        return copy if copy.stride() == tensor.stride() else tensor

    return map_tensors(own, batch)


@dataclass(frozen=True)
class Failure:
    """An exception in another process: a line, its traceback, and whether it was a fault of ours
    (`numeric_formats.faults`)."""

    line: str
    trace: str
    ours: bool = False

    def error(self) -> WorkerError | RuntimeError:
        """To be raised here."""
        error = RuntimeError(self.line) if self.ours else WorkerError(self.line)
        error.add_note(self.trace)
        return error


@dataclass(frozen=True)
class Lost:
    """A process that ended by itself. final: whether another would end so too."""

    why: str
    final: bool = False


READY = "ready"
Reply = list[Measurement] | Failure | Lost | str
"""Of a unit, of a process that ended, or READY."""
