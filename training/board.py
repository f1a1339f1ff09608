"""A run's rows for TensorBoard."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = "tensorboard"
OF_A_STEP = ("loss", "rate", "angle", "layer_angle", "flip_rate", "oscillation", "overflows", "underflows")
OF_AN_EPOCH = ("loss", "metric")


class Board:
    """Writes scalars of steps and epochs beneath a run's folder. Use as a context manager.

    Args:
        folder: The run's.
        first: Steps that were done before; later ones of an earlier start are hidden.

    Raises:
        ValueError: Where TensorBoard is not installed.
    """

    def __init__(self, folder: Path, first: int):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                "TensorBoard is not installed; pip install 'numeric-formats[tensorboard]', or train without it"
            ) from None
        self._writer = SummaryWriter(folder / FOLDER, purge_step=first + 1)

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def _add(self, group: str, names: tuple[str, ...], row: dict[str, Any], step: int) -> None:
        for name in names:
            value = row[name]
            if value is not None and not math.isnan(value):
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def step(self, row: dict[str, Any]) -> None:
        """A row of `training.log.Log.steps`."""
        self._add("step", OF_A_STEP, row, row["step"])

    def epoch(self, row: dict[str, Any], step: int) -> None:
        """A row of `training.log.Log.epochs`, which ended with this step."""
        self._add("epoch", OF_AN_EPOCH, row, step)
        self._writer.flush()
