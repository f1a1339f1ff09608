"""The tensors at a workload's points, as they are in full precision, for histograms and for fitting formats without the
model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from numeric_formats.files import write_atomically
from predictor.flow.points import Point
from predictor.gradient.gradients import Gradients
from predictor.gradient.noise import Kind
from workloads.workload import Workload


def record(
    workload: Workload, layers: Sequence[str] = (), batch_size: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """Activations and errors of the first mini-batch.

    Args:
        workload: the network, its loss and its mini-batches.
        layers: only those of these layers and what is inside them; by default all.
        batch_size: examples of the mini-batch, by default the workload's.

    Returns:
        float32 arrays named by layer, operation and kind ("conv1:conv2d A"), in the order of their points: an
        activation, then the error that comes back to it. Points with no error (a loss that does not depend on them)
        have an activation alone.

    Raises:
        ValueError: a layer without a point.
    """
    found: dict[tuple[int, Kind], NDArray[np.float32]] = {}
    names: dict[int, str] = {}

    def keep(kind: Kind, x: Tensor, point: Point) -> None:
        if not layers or any(point.layer == layer or point.layer.startswith(f"{layer}.") for layer in layers):
            names[point.index] = point.name
            found[point.index, kind] = x.detach().float().contiguous().cpu().numpy().copy()

    with Gradients(workload, workload.minibatches(batch_size)[0]) as gradients:
        gradients.observe(lambda x, point: keep(Kind.A, x, point), lambda e, point: keep(Kind.E, e, point))
        there = {point.layer for point in gradients.flow.points}
    for layer in layers:
        if not any(name == layer or name.startswith(f"{layer}.") for name in there):
            raise ValueError(f"layer {layer!r} has no point; there are {', '.join(sorted(there - {''})[:8])}, ...")
    return {
        f"{names[index]} {kind}": found[index, kind]
        for index, kind in sorted(found, key=lambda key: (key[0], key[1] is Kind.E))
    }


def write(tensors: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """An .npz file that `formats plot` and `formats fit` read."""
    write_atomically(path, lambda file: np.savez(file, **tensors))  # type: ignore[arg-type]
