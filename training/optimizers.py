"""Optimizers that keep master weights and momentum in a number format, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from numeric_formats.checks import one_of
from predictor.attention import has_attention
from training.weights import Group, Weight


class Optimizer(StrEnum):
    """What moves the master weights."""

    SGD = "sgd"
    ADAMW = "adamw"


USUAL_RATES = {Optimizer.SGD: 0.1, Optimizer.ADAMW: 1e-3}


def usual(model: nn.Module, optimizer: str | None, rate: float | None) -> tuple[str, float]:
    """The optimizer and its largest learning rate where none is named: AdamW for a network with attention, else
    SGD."""
    if optimizer is None:
        optimizer = Optimizer.ADAMW if has_attention(model) else Optimizer.SGD
    return optimizer, USUAL_RATES[one_of("optimizer", Optimizer, optimizer)] if rate is None else rate


class Schedule(StrEnum):
    """How the learning rate goes: constant; cosine to 0; steps, a tenth after half and again after three quarters of
    the run."""

    CONSTANT = "constant"
    COSINE = "cosine"
    STEPS = "steps"


def _groups(weights: Iterable[Weight], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The optimizer's groups, in the order of the weights."""
    shared: dict[Group, list[Any]] = {}
    for weight in weights:
        shared.setdefault(weight.group, []).append(weight.master)
    return [
        {"params": masters, "lr": lr * group.rate, "weight_decay": weight_decay * group.decay, "name": group.own}
        for group, masters in shared.items()
    ]


class MasterSGD(torch.optim.Optimizer):
    """SGD with momentum on master weights, with rounding after each line (docs/definitions/training.md section 1):

    d = grad + wd * w_q,  v = Q_M(mu * v + d),  w = Q_M(w - lr * v)

    d is rounded by Q_M too where the scheme says so (`rounded_decay`). Every operation is a float32 one, rounded once,
    without fused multiply-add; so are the learning rate, momentum and weight decay.
    """

    def __init__(self, weights: Sequence[Weight], lr: float, momentum: float, weight_decay: float):
        self._weights = weights
        super().__init__(
            _groups(weights, lr, weight_decay), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients of the masters."""
        assert closure is None
        groups = {id(master): group for group in self.param_groups for master in group["params"]}
        for weight in self._weights:
            w, group = weight.master, groups[id(weight.master)]
            if w.grad is None:
                continue
            # Products on their own: add(x, alpha=a) would fuse them.
            d = torch.mul(weight.parameter, group["weight_decay"]).add_(w.grad)
            if weight.rounds_decay:
                weight.round_master(d)
            state = self.state[w]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(w)
            v = state["momentum_buffer"]
            v.mul_(group["momentum"]).add_(d)
            weight.round_master(v)
            w.sub_(torch.mul(v, group["lr"], out=d))
            weight.round_master(w)


class MasterAdamW(torch.optim.AdamW):
    """torch's AdamW on master weights; weights and the first moment are rounded to the master format after every step.

    The second moment stays float32: squares of small gradients lie below the smallest value of 16-bit formats.
    Weight decay is decoupled and shrinks the master.
    """

    def __init__(self, weights: Sequence[Weight], lr: float, momentum: float, weight_decay: float):
        self._weights = weights
        super().__init__(_groups(weights, lr, weight_decay), lr, (momentum, 0.999), weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients of the masters."""
        super().step(closure)
        for weight in self._weights:
            if weight.master.grad is not None:
                weight.round_master(self.state[weight.master]["exp_avg"])
                weight.round_master(weight.master)


OPTIMIZERS: dict[str, Callable[[Sequence[Weight], float, float, float], torch.optim.Optimizer]] = {
    Optimizer.SGD: MasterSGD,
    Optimizer.ADAMW: MasterAdamW,
}


def add_weight(
    optimizer: torch.optim.Optimizer, schedule: LambdaLR, weight: Weight, lr: float, weight_decay: float
) -> None:
    """Let an optimizer move one weight more from now on, in a group of its own, at the schedule's learning rate.

    lr, weight_decay: those that the optimizer was made with. The weight is in the optimizer's list already.
    """
    (group,) = _groups([weight], lr, weight_decay)
    base, rule = group["lr"], schedule.lr_lambdas[0]
    now = base * rule(schedule.last_epoch)
    optimizer.add_param_group({**group, "initial_lr": base, "lr": now})
    schedule.base_lrs.append(base)
    schedule.lr_lambdas.append(rule)
    schedule._last_lr.append(now)


def schedule_of(optimizer: torch.optim.Optimizer, schedule: Schedule | str, warmup: int, steps: int) -> LambdaLR:
    """The learning rate of each of `steps` steps; it rises from 0 in the first `warmup` ones."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if schedule is Schedule.COSINE:
            return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
        if schedule is Schedule.STEPS:
            return 0.1 ** ((2 * step >= steps) + (4 * step >= 3 * steps))
        return 1.0

    return LambdaLR(optimizer, factor)
