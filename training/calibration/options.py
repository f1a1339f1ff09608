"""The options of post-training quantization."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from formats import Format
from numeric_formats.checks import number, one_of
from training.calibration.adaround import AdaRound
from training.calibration.grids import Grid, WeightGrid, activation_grid, weight_grid
from training.calibration.ranges import RangeRule


class Absorb(StrEnum):
    """Which high biases are absorbed: none, all, or only where no padding makes it inexact."""

    OFF = "off"
    ALL = "all"
    EXACT = "exact"


class Correction(StrEnum):
    """Bias correction: none, from data, or from batch normalization."""

    OFF = "off"
    EMPIRICAL = "empirical"
    ANALYTIC = "analytic"


class Relu6(StrEnum):
    """What becomes of ReLU6 in equalization: a cap a channel, which keeps the function, or ReLU, which does not."""

    CAP = "cap"
    REPLACE = "replace"


class ActivationRule(StrEnum):
    """How ranges of activations are set; bn: from batch normalization where the input is one normalized layer's, minmax
    elsewhere."""

    MINMAX = "minmax"
    MSE = "mse"
    PERCENTILE = "percentile"
    BN = "bn"


@dataclass(frozen=True)
class CalibrationOptions:
    """What `training.calibration.quantize` does; what each option is is said there.

    Attributes:
        weight_grid: Of `weights`; None for float32.
        activation_grid: Of `activations`; None for float32.

    Raises:
        ValueError: For what is not allowed.
    """

    weights: str | Format = "INT4"
    activations: str | Format = "INT8"
    fold: bool = True
    equalize: bool = True
    relu6: Relu6 | str = Relu6.CAP
    absorb: Absorb | str = Absorb.ALL
    per_channel: bool = False
    weight_range: RangeRule | str = RangeRule.MSE
    activation_range: ActivationRule | str = ActivationRule.MSE
    logits_range: RangeRule | str | None = RangeRule.CROSS_ENTROPY
    percentile: float = 99.99
    adaround: AdaRound | None = AdaRound()
    bias_correction: Correction | str = Correction.OFF
    minibatches: int = 8
    batch_size: int | None = None
    seed: int = 0
    rank_layers: bool = True
    weight_grid: WeightGrid | None = field(init=False, repr=False, compare=False)
    activation_grid: Grid | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kinds: dict[str, type[StrEnum]] = {
            "relu6": Relu6,
            "absorb": Absorb,
            "weight_range": RangeRule,
            "activation_range": ActivationRule,
            "bias_correction": Correction,
        }
        for name, kind in kinds.items():
            object.__setattr__(self, name, one_of(name, kind, getattr(self, name)))
        if self.logits_range is not None:
            object.__setattr__(self, "logits_range", one_of("logits_range", RangeRule, self.logits_range))
        if self.weight_range is RangeRule.CROSS_ENTROPY:
            raise ValueError("weight_range 'cross-entropy': it is for logits; allowed are minmax, mse, percentile")
        number("quantize: minibatches", self.minibatches, 1, 1 << 30, whole=True)
        number("quantize: seed", self.seed, 0, (1 << 31) - 1, whole=True)
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile {self.percentile}: above 50 and at most 100 is needed")
        if not self.fold and (self.equalize or self.absorb is not Absorb.OFF):
            raise ValueError("without folding there is nothing to equalize or absorb; switch those off too")
        object.__setattr__(self, "weight_grid", weight_grid(self.weights))
        object.__setattr__(self, "activation_grid", activation_grid(self.activations))

    def settings(self) -> dict[str, Any]:
        """As plain values; formats by name and digest."""
        plain = {
            key: value
            for key, value in asdict(replace(self, weights="float32", activations="float32")).items()
            if not key.endswith("_grid")
        }
        for name in ("weights", "activations"):
            given = getattr(self, name)
            plain[name] = given if isinstance(given, str) else f"{given.name} {given.digest}"
        return plain
