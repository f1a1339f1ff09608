"""Against oscillating weights in the steps of a run: dampening and freezing (docs/definitions/training.md section
3)."""

from __future__ import annotations

from collections.abc import Sequence

from training.annealing import Annealed
from training.freezing import Freezing
from training.settings import TrainingSettings
from training.weights import Weight


class Remedies:
    """What is done in each step beside its rounding; nothing where the settings ask for nothing.

    Args:
        settings: Of the run.
        weights: Of the network; those that are quantized are meant.
        steps: Of the run, over which strength and threshold are annealed.
    """

    def __init__(self, settings: TrainingSettings, weights: Sequence[Weight], steps: int):
        self._weights = [weight for weight in weights if weight.turns is not None]
        self._steps = steps
        given = settings.dampening, settings.freezing
        self._dampening, self._freezing = (
            None if value is None else Annealed.of(name, value)
            for name, value in zip(("dampening", "freezing"), given, strict=True)
        )
        if self._freezing is not None:
            for weight in self._weights:
                weight.freezing = Freezing(weight.parameter)

    def before_update(self, step: int) -> None:
        """Pull the masters toward their rounded values. step: counted from 0."""
        if self._dampening is not None:
            for weight in self._weights:
                weight.dampen(self._dampening.at(step, self._steps))

    def after_update(self) -> None:
        """Put frozen masters back."""
        for weight in self._weights:
            weight.hold()

    def after_rounding(self, step: int) -> None:
        """Freeze what has flipped back too often by now."""
        if self._freezing is not None:
            for weight in self._weights:
                weight.freeze(self._freezing.at(step, self._steps))
