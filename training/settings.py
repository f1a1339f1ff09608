"""The settings of a training run: all of it but the formats and the method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from formats import Rounding
from numeric_formats.checks import number, one_of
from predictor.scheme import ScaleRule, Scheme
from training.annealing import Annealed
from training.optimizers import Optimizer, Schedule


class Start(StrEnum):
    """The weights that training starts from: new random ones, or those that the workload comes with."""

    SCRATCH = "scratch"
    PRETRAINED = "pretrained"


@dataclass(frozen=True)
class TrainingSettings:
    """All of a run but the formats and the method.

    Args:
        epochs: Passes over the mini-batches.
        batch_size: None for the workload's.
        optimizer: `sgd` or `adamw`.
        rate: The largest learning rate.
        momentum: Of SGD, or the first of AdamW's.
        weight_decay: Weight decay; of AdamW decoupled.
        schedule: `constant`, `cosine` or `steps`.
        warmup: Steps in which the learning rate rises.
        start: `scratch` or `pretrained`.
        seed: Decides new weights, the order of mini-batches, random numbers of the network and of stochastic rounding.
        loss_bound: A loss above it is a divergence.
        checkpoint_every: Steps between checkpoints within an epoch; 0 for the ends of epochs alone.
        angle_every: Steps between samples of the angle; 0 for none.
        metric_every: Epochs between metrics; the last epoch has one.
        hysteresis_epochs: After so many epochs weights are rounded to nearest instead; None for never.
        dampening: Strength of the pull of master weights toward their rounded values, a number or START:END for a
            cosine from one to the other; None for none.
        freezing: Frequency of flips back above which a weight is fixed, likewise; None for never.

    Raises:
        ValueError: For numbers and names that mean nothing.
    """

    epochs: int
    batch_size: int | None = None
    optimizer: Optimizer | str = Optimizer.SGD
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule | str = Schedule.COSINE
    warmup: int = 0
    start: Start | str = Start.SCRATCH
    seed: int = 0
    loss_bound: float = 1000.0
    checkpoint_every: int = 0
    angle_every: int = 0
    metric_every: int = 1
    hysteresis_epochs: int | None = None
    dampening: float | str | None = None
    freezing: float | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizer", one_of("optimizer", Optimizer, self.optimizer))
        object.__setattr__(self, "schedule", one_of("schedule", Schedule, self.schedule))
        object.__setattr__(self, "start", one_of("start", Start, self.start))
        number("epochs", self.epochs, 1, whole=True)
        number("metric every", self.metric_every, 1, whole=True)
        if self.hysteresis_epochs is not None:
            number("hysteresis epochs", self.hysteresis_epochs, 1, whole=True)
        for name, high in (("dampening", math.inf), ("freezing", 1.0)):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else str(Annealed.of(name, given, high)))
        number("seed", self.seed, 0, 2**64 - 1, whole=True)  # torch's generators have no others
        for name in ("warmup", "checkpoint_every", "angle_every"):
            number(name.replace("_", " "), getattr(self, name), 0, whole=True)
        for name in ("rate", "momentum", "weight_decay", "loss_bound"):
            number(name.replace("_", " "), getattr(self, name), 0)


class TrainingKeywords(TypedDict, total=False):
    """Keywords of `training.train` that `training.validate` hands on to every run; what they are is said there."""

    weight_rounding: Rounding | str
    master_rounding: Rounding | str
    scheme: Scheme | str
    scale: ScaleRule | str | None
    two_terms: bool
    batch_size: int | None
    optimizer: Optimizer | str
    rate: float
    momentum: float
    weight_decay: float
    schedule: Schedule | str
    warmup: int
    start: Start | str
    loss_bound: float
    checkpoint_every: int
    angle_every: int
    metric_every: int
    hysteresis_epochs: int | None
    dampening: float | str | None
    freezing: float | str | None
    tensorboard: bool
