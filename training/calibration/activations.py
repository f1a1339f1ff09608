"""What calibration sees of a network at work: tensors at a layer, mini-batch by mini-batch, kept in files where they
have to be kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workloads.workload import Batch, Workload


class _Reached(Exception):
    """Ends a forward pass at the layer whose tensors were wanted."""


def forward(workload: Workload, model: nn.Module, batch: Batch) -> None:
    """One forward pass of a mini-batch, as the workload's loss makes it, without gradients."""
    with torch.no_grad():
        workload.loss_of(model, batch)


def at_layer(
    workload: Workload, model: nn.Module, layer: str, batches: Sequence[Batch], *, output: bool = False
) -> Iterator[Tensor]:
    """The input (or output) of a layer's first call in each mini-batch's forward pass, which goes no further than that.

    Raises ValueError where the loss does not come to the layer.
    """
    seen: list[Tensor] = []

    def before(_: nn.Module, args: Any) -> None:
        seen.append(args[0].detach())
        raise _Reached

    def after(_: nn.Module, args: Any, result: Tensor) -> None:
        seen.append(result.detach())
        raise _Reached

    module = model.get_submodule(layer)
    for batch in batches:
        handle = module.register_forward_hook(after) if output else module.register_forward_pre_hook(before)
        try:
            forward(workload, model, batch)
        except _Reached:
            pass
        finally:
            handle.remove()
        if not seen:
            raise ValueError(f"the loss of workload {workload.name} does not come to layer {layer}")
        yield seen.pop()


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
                        "equal ones are needed"
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
