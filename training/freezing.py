"""Iterative weight freezing: weights that oscillate often are fixed (docs/definitions/training.md section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NEW = 0.01
"""The share of the newest step in the running averages."""


class Freezing:
    """What decides when the values of a quantized weight are fixed, and at what.

    Attributes:
        frequency: Running average of whether each value flipped back, from 0 on.
        average: Running average of each value, from the first on; of a frozen one, what it is fixed at.
        frozen: Which are fixed.

    Args:
        values: Of the weight; all tensors have its shape and lie on the CPU.

    Source:
        Nagel, Fournarakis, Bondarenko, Blankevoort, "Overcoming Oscillations in Quantization-Aware Training", ICML
        2022 (arXiv:2203.11086).
    """

    def __init__(self, values: Tensor):
        self.average = values.detach().cpu().clone()
        self.frequency = torch.zeros_like(self.average)
        self.frozen = torch.zeros_like(self.average, dtype=torch.bool)

    def see(self, values: Tensor, back: Tensor, threshold: float, round: Callable[[Tensor], Tensor]) -> bool:
        """Take in a step, and freeze what flipped back too often; whether anything was.

        Args:
            values: Of the weight after the step.
            back: Which of them flipped back in it, however long after their last flip.
            threshold: Of the frequency, above which a value is frozen.
            round: To nearest by the scale in use.
        """
        self.frequency.mul_(1 - NEW).add_(back.float() * NEW)
        moved = self.average * (1 - NEW) + values * NEW
        new = (self.frequency > threshold) & ~self.frozen
        if found := bool(new.any()):
            self.frozen |= new
            moved = torch.where(new, round(moved), moved)
        self.average = torch.where(self.frozen & ~new, self.average, moved)
        return found
