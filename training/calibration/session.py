"""What the stages of one quantization share: the network at hand, the data, and what is said of how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from numeric_formats.progress import Progress, Report
from predictor.flow.float32 import InFloat32
from training.calibration.activations import weights_frozen
from training.calibration.network import Network
from training.calibration.options import CalibrationOptions
from training.calibration.result import PipelineStep
from workloads.containers import tensors_in
from workloads.workload import Batch, Workload


@dataclass(eq=False)
class Calibrating:
    """One quantization of a workload's network.

    Attributes:
        workload: Whose network, which stays as it is, is quantized.
        options: How.
        network: The copy that the stages change.
        batches: The calibration data.
        settings: What the run is made from and with, as plain values.
        folder: For checkpoints; None keeps none.
        progress: Hears of every stage.
        steps: The network after each step so far.
        derivatives: Whether the loss lets the network's input require a gradient, as it does for a derivative inside.
    """

    workload: Workload
    options: CalibrationOptions
    network: Network
    batches: Sequence[Batch]
    settings: dict[str, Any]
    folder: Path | None
    progress: Report
    steps: list[PipelineStep] = field(default_factory=list)
    derivatives: bool = False

    def report(self, stage: str, done: int, total: int) -> None:
        """Tell whoever listens how far a stage is."""
        self.progress(Progress(stage, done, total))

    def loss(self, model: nn.Module, batches: Sequence[Batch]) -> float:
        """The mean over mini-batches."""
        handle = model.register_forward_pre_hook(self._see_derivatives, with_kwargs=True)
        try:
            with InFloat32(), weights_frozen(model):
                return float(np.mean([self.workload.loss_of(model, batch).item() for batch in batches]))
        finally:
            handle.remove()

    def _see_derivatives(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        self.derivatives |= any(t.requires_grad for t in tensors_in((args, kwargs)))

    def metric(self, model: nn.Module) -> float | None:
        """The mean over the workload's test mini-batches; None where it has none."""
        workload = self.workload
        if workload.test is None or workload.metric is None:
            return None
        test = replace(workload, batches=workload.test).minibatches()
        with InFloat32(), weights_frozen(model):
            return float(np.mean([workload.metric_of(model, batch) for batch in test]))

    def record(self, name: str, model: nn.Module) -> None:
        """A step is done: what the network is worth after it."""
        self.steps.append(PipelineStep(name, self.loss(model, self.batches), self.metric(model)))
        self.report(name, 1, 1)
