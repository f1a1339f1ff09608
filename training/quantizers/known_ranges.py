"""Ranges that calibration found, from which steps that are learned begin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.quantizers.clipped import SMALLEST_LEARNED_STEP


@dataclass(frozen=True, eq=False)
class KnownRanges:
    """Ranges of a network's weights and activations.

    Attributes:
        weights: The clipping threshold of each weight, float32, a scalar or broadcastable to it, by the parameter's
            name.
        inputs: The ends of the range of each layer's input, by the layer's name.
        formats: What was calibrated, in words.
        name: A fingerprint, for settings.
    """

    weights: Mapping[str, Tensor]
    inputs: Mapping[str, tuple[float, float]]
    formats: str = ""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        plain = {
            "weights": {key: value.flatten().tolist() for key, value in self.weights.items()},
            "inputs": dict(self.inputs),
        }
        object.__setattr__(
            self, "name", "ranges " + hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
        )

    def weight_step(self, parameter: str, high: int, per_channel: bool) -> Tensor | None:
        """The step whose `high` multiples reach the threshold, float32; None for a weight without one, or with one for
        other channels."""
        known = self.weights.get(parameter)
        if known is None or (known.numel() > 1) is not per_channel:
            return None
        return (known.double() / high).float().clamp(min=SMALLEST_LEARNED_STEP)

    def input_step(self, layer: str, low: int, high: int) -> Tensor | None:
        """The least step at which the integers low .. high reach both ends, float32 scalar; None for a layer without a
        range."""
        known = self.inputs.get(layer)
        if known is None:
            return None
        reach = max(known[1] / high, known[0] / low if low and known[0] < 0 else 0.0)
        return torch.tensor(reach, dtype=torch.float32).clamp(min=SMALLEST_LEARNED_STEP)
