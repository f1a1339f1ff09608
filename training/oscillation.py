"""Oscillation: quantized weights that flip back soon after they flipped (docs/definitions/training.md section 3)."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from formats import Rounding

WITHIN = 10
"""A weight oscillates where it flips back no more than so many steps after its last flip: as long as one gradient lasts
in a momentum of 0.9, 1 / (1 - 0.9) steps. A weight that comes back later was moved back by other gradients."""
OFTEN = 0.0004
"""The share of the weights that oscillate in a step, rounded to nearest, from which on hysteresis lowers the loss, and
below which it raises it (docs/results/hysteresis.md; INT4 weights)."""
MOVING = 0.0001
"""The same of the weights that flip in a step with hysteresis."""
LAST = 10
"""The end of a run is the last of so many equal parts of its steps."""


class Turns:
    """When and in which direction each value of a quantized weight last changed.

    Attributes:
        since: int8, of the weight's shape, on the CPU: the steps since the last change (1 in the next one), positive
            where it went up and negative where it went down, at most WITHIN + 1; 0 where there was none.
        back: Whether each value changed in the last step, in the direction opposite to the change before, however long
            ago that was.

    Args:
        values: Of the weight.
    """

    def __init__(self, values: Tensor):
        self.since = torch.zeros_like(values, dtype=torch.int8, device="cpu", requires_grad=False)
        self.back = torch.zeros_like(self.since, dtype=torch.bool)

    def see(self, before: Tensor, after: Tensor) -> int:
        """Take in a step; how many values turned back within WITHIN steps.

        Args:
            before: What the values were.
            after: What they are.
        """
        direction = (after > before).to(torch.int8) - (after < before).to(torch.int8)
        self.back = self.since * direction < 0
        found = int((self.back & (self.since.abs() <= WITHIN)).sum())
        self.since.add_(self.since.sign()).clamp_(-WITHIN - 1, WITHIN + 1)
        torch.where(direction != 0, direction, self.since, out=self.since)
        return found


def oscillation_seen(steps: pd.DataFrame, rounding: Rounding | str, hysteresis_epochs: int | None = None) -> str | None:
    """What is to be said of the oscillation in a run, and what helps; None where no weight was quantized.

    Args:
        steps: `training.log.Log.step_table`; runs from before there was the column say nothing.
        rounding: Of the weights.
        hysteresis_epochs: After how many it was to nearest instead.
    """
    shares = steps.get("oscillation", pd.Series(dtype=float)).dropna()
    if shares.empty:
        return None

    def late(values: pd.Series[float]) -> float:
        return float(values.iloc[-max(1, len(values) // LAST) :].mean())

    said = (
        f"in a step {shares.mean():.2%} of the quantized weights flipped back within {WITHIN} steps, "
        f"{late(shares):.3%} in the last tenth of the run"
    )
    if rounding == Rounding.STOCHASTIC:
        return f"{said}; stochastic rounding draws anew in every step and never settles"
    released = hysteresis_epochs is not None and steps["epoch"].iloc[-1] > hysteresis_epochs
    if rounding == Rounding.HYSTERESIS and not released:
        moved = late(steps["flip_rate"].dropna())
        if moved >= MOVING:
            return said
        return (
            f"{said}, where {moved:.3%} still moved; of runs that end below {MOVING:.2%}, those with "
            "--weight-rounding nearest had a lower loss"
        )
    if late(shares) < OFTEN:
        return said
    return f"{said}: above {OFTEN:.2%}, --weight-rounding hysteresis lowers the loss, and so does a smaller last rate"
