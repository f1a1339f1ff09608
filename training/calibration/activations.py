"""What calibration sees of a network at work: tensors at a layer, mini-batch by mini-batch, kept in files where they
have to be kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workloads.containers import tensors_in
from workloads.workload import Batch, Workload

ONE_SHAPE = "AdaRound draws rows from all: crop or pad them to one, or leave it out (adaround=None, --no-adaround)"


class _Reached(Exception):
    """Ends a forward pass at the layer whose tensors were wanted."""


@contextmanager
def weights_frozen(model: nn.Module) -> Iterator[None]:
    """Inside, no parameter requires a gradient: nothing is recorded for a backward pass, unless the loss takes a
    derivative by the network's input."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def forward(workload: Workload, model: nn.Module, batch: Batch) -> None:
    """One forward pass of a mini-batch, as the workload's loss makes it, without gradients of weights."""
    with weights_frozen(model):
        workload.loss_of(model, batch)


def read_by(args: Any, kwargs: Any) -> Tensor:
    """What a layer that is called so reads."""
    given: Tensor = args[0] if args else kwargs["input"]
    return given


def at_layer(
    workload: Workload, model: nn.Module, layer: str, batches: Sequence[Batch], *, output: bool = False
) -> Iterator[Tensor]:
    """The input (or output) of a layer's first call in each mini-batch's forward pass, which goes no further than that.

    Raises ValueError where the loss does not come to the layer.
    """
    seen: list[Tensor] = []

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append(read_by(args, kwargs).detach())
        raise _Reached

    def after(_: nn.Module, args: Any, result: Tensor) -> None:
        seen.append(result.detach())
        raise _Reached

    module = model.get_submodule(layer)
    for batch in batches:
        handle = (
            module.register_forward_hook(after)
            if output
            else module.register_forward_pre_hook(before, with_kwargs=True)
        )
        try:
            forward(workload, model, batch)
        except _Reached:
            pass
        finally:
            handle.remove()
        if not seen:
            raise ValueError(f"the loss of workload {workload.name} does not come to layer {layer}")
        yield seen.pop()


def check_shapes(workload: Workload, model: nn.Module, layers: Sequence[str], batches: Sequence[Batch]) -> None:
    """ValueError where a layer reads rows of other shapes in one mini-batch than in another, which `ActivationStore`
    cannot hold. Mini-batches of one shape are not run."""
    if len({tuple(t.shape[1:] for t in tensors_in(batch)) for batch in batches}) == 1:
        return
    found: dict[str, tuple[int, ...]] = {}

    def see(_: nn.Module, args: Any, kwargs: Any, name: str) -> None:
        shape = tuple(read_by(args, kwargs).shape[1:])
        if found.setdefault(name, shape) != shape:
            raise ValueError(
                f"layer {name} reads rows of {found[name]} in one mini-batch, {shape} in another; {ONE_SHAPE}"
            )

    handles = [
        model.get_submodule(name).register_forward_pre_hook(partial(see, name=name), with_kwargs=True)
        for name in layers
    ]
    try:
        for batch in batches:
            forward(workload, model, batch)
    finally:
        for handle in handles:
            handle.remove()


class ActivationStore:
    """Rows of tensors on disk, of which any mini-batch can be read: a file for each kind of tensor, without a name, so
    that none is left however the process ends. folder: on whose disk; the system's one for temporary files by default.

    At no time is more than one mini-batch of them held in memory, but for what the system caches of files.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.rows = 0
        self._maps: dict[str, np.memmap[Any, Any]] = {}

    def fill(self, name: str, tensors: Iterator[Tensor], change: Callable[[Tensor], Tensor] | None = None) -> None:
        """Write the tensors (batch first, float32), changed, one after the other; called once for each name, with as
        many rows."""
        rows, shape = 0, None
        with tempfile.TemporaryFile(dir=self.folder) as file:
            for tensor in tensors:
                kept = (tensor if change is None else change(tensor)).detach().float().cpu().contiguous()
                if shape is not None and tuple(kept.shape[1:]) != shape:
                    raise ValueError(
                        f"mini-batches give tensors of shapes {shape} and {tuple(kept.shape[1:])} at one layer; "
                        f"{ONE_SHAPE}"
                    )
                shape, rows = tuple(kept.shape[1:]), rows + len(kept)
                file.write(kept.numpy().tobytes())
            assert shape is not None
            file.flush()
            self.rows = rows
            self._maps[name] = np.memmap(file, np.float32, "r", shape=(rows, *shape))

    def read(self, name: str, rows: Any) -> Tensor:
        """Some rows (whole numbers, or a slice), copied into memory."""
        return torch.from_numpy(np.array(self._maps[name][rows]))

    def in_order(self, size: int) -> Iterator[slice]:
        """All rows, in slices of a size."""
        for begin in range(0, self.rows, size):
            yield slice(begin, min(begin + size, self.rows))

    def close(self) -> None:
        """Give the room on the disk back."""
        self._maps.clear()
