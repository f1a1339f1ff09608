"""What a training run gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd
from torch import nn

from training.log import Log
from training.methods.method import MethodState


class Outcome(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"


@dataclass(frozen=True, eq=False)
class Result:
    """What a run gave.

    Attributes:
        model: The trained network in evaluation mode, its weights rounded.
        outcome: Finished or diverged.
        reason: Of a divergence, in words; "" where the run finished.
        steps: A row per step (`training.log.Log`).
        epochs: A row per epoch (`training.log.Log`).
        metric: Mean of the workload's metric over `test` after the last epoch, or after the best one where the scheme
            says so; None where there is none. With weights and activations rounded as in training, and as the method
            evaluates.
        settings: Of the run, as plain values.
        coverage: How much of the network the formats' points and the method cover, and what stays in float32, in lines.
        method_state: The state of the method, None without one. `training.methods.quantized(result.model,
            result.method_state)` computes as it evaluates, the network by itself with the float32 weights.
    """

    model: nn.Module
    outcome: Outcome
    reason: str
    steps: pd.DataFrame
    epochs: pd.DataFrame
    metric: float | None
    settings: dict[str, Any]
    coverage: tuple[str, ...]
    method_state: MethodState | None
    _log: Log

    @property
    def layers(self) -> pd.DataFrame:
        """A row per step and rounded tensor: step and the fields of `training.delayed.RoundingCounts`."""
        return self._log.layer_table()


def reported_metric(epochs: Sequence[dict[str, Any]], best: bool, lower_is_better: bool) -> float | None:
    """The metric of the last epoch, or of the best one; None where there is none.

    Args:
        epochs: Rows of `training.log.Log.epochs`.
        best: Which of the two.
        lower_is_better: Of the metric.
    """
    known: list[float] = [row["metric"] for row in epochs if row["metric"] is not None]
    known = [metric for metric in known if not math.isnan(metric)]
    if not best or not known:
        return epochs[-1]["metric"] if epochs else None
    return (min if lower_is_better else max)(known)
