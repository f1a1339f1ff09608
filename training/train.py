"""The training loop: any workload, any formats (docs/definitions/training.md sections 1 to 3)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from formats import Format, Rounding
from numeric_formats.checks import number, one_of
from numeric_formats.files import check_same, hold, write_json
from numeric_formats.version import NAME, versions_of
from predictor.angle import degrees, layer_sums
from predictor.device import device_of
from predictor.flow.dataflow import DataFlow
from predictor.flow.points import Point, Quantizer
from predictor.gradients import evaluation_mode, measured_parameters, two_terms
from training import checkpoint
from training.board import Board
from training.delayed import Observation, Places
from training.log import Log
from training.methods.method import Method, Run, Setup, Training, layers_of, settings_of
from training.optimizers import OPTIMIZERS, Optimizer, Schedule, schedule_of
from training.scheme import (
    ERROR_HEADROOM,
    FULL_PRECISION,
    GRADIENT_HEADROOM,
    ScaleRule,
    Scheme,
    training_format,
)
from training.weights import Streams, Weight, weights_of
from workloads.digests import digest, weights_digest
from workloads.workload import Batch, Workload

SETTINGS, RESULT = "settings.json", "result.json"
METHOD = "method."
"""What the names of a method's parameters and tensors begin with."""


class Outcome(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"


class Start(StrEnum):
    """The weights that training starts from: new random ones, or those that the workload comes with."""

    SCRATCH = "scratch"
    PRETRAINED = "pretrained"


@dataclass(frozen=True)
class Recipe:
    """All of a run but the formats. Raises ValueError for numbers and names that mean nothing.

    epochs: passes over the mini-batches. batch_size: None for the workload's. rate: the largest learning rate.
    momentum: of SGD, or the first of AdamW's. warmup: steps in which the rate rises. seed: decides new weights, the
    order of mini-batches, random numbers of the network and of stochastic rounding. loss_bound: a loss above it is a
    divergence. checkpoint_every: steps between checkpoints within an epoch; 0 for epochs alone. angle_every: steps
    between samples of the angle; 0 for none. metric_every: epochs between metrics; the last epoch has one.
    """

    epochs: int
    batch_size: int | None = None
    optimizer: Optimizer = Optimizer.SGD
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = Schedule.COSINE
    warmup: int = 0
    start: Start = Start.SCRATCH
    seed: int = 0
    loss_bound: float = 1000.0
    checkpoint_every: int = 0
    angle_every: int = 0
    metric_every: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizer", one_of("optimizer", Optimizer, self.optimizer))
        object.__setattr__(self, "schedule", one_of("schedule", Schedule, self.schedule))
        object.__setattr__(self, "start", one_of("start", Start, self.start))
        for name, least in (
            ("epochs", 1),
            ("metric_every", 1),
            ("warmup", 0),
            ("seed", 0),
            ("checkpoint_every", 0),
            ("angle_every", 0),
        ):
            number(name.replace("_", " "), getattr(self, name), least, whole=True)
        for name in ("rate", "momentum", "weight_decay", "loss_bound"):
            number(name.replace("_", " "), getattr(self, name), 0)


@dataclass(frozen=True)
class Progress:
    """Where a run is: steps done of all, epoch (from 1), the last loss, and the last epoch's metric."""

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    metric: float | None


@dataclass(frozen=True, eq=False)
class Result:
    """What a run gave.

    model: the trained network in evaluation mode, its weights rounded. outcome: finished or diverged; reason: in words,
    "" where it finished.
    steps, epochs: data frames with a row per step and per epoch (`training.log.Log`). metric: mean of the workload's
    metric over `test` after the last epoch, None where there is none; with weights and activations rounded as in
    training, and as the method evaluates. settings: plain values. run: the state of the method, None without one;
    `training.methods.quantized(result.model, result.run)` computes as it evaluates, the network by itself with the
    float32 weights.
    """

    model: nn.Module
    outcome: Outcome
    reason: str
    steps: pd.DataFrame
    epochs: pd.DataFrame
    metric: float | None
    settings: dict[str, Any]
    run: Run | None
    _log: Log

    @property
    def layers(self) -> pd.DataFrame:
        """A row per step and rounded tensor: step and the fields of `training.delayed.Observation`."""
        return self._log.layer_table()


def start_from_scratch(model: nn.Module) -> None:
    """Draw new weights by every module's own `reset_parameters`; ValueError where a module with parameters has none."""
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
        elif any(True for _ in module.parameters(recurse=False)):
            raise ValueError(
                f"layer {name or '(network)'} ({type(module).__name__}) has parameters and no reset_parameters, so it cannot start from "
                "scratch; start from pretrained weights"
            )


@contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The network's buffers and torch's random numbers are afterwards what they were before."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    state = _random_state(device)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in buffers:
                buffer.copy_(values)
        _set_random_state(state, device)


class Angles(NamedTuple):
    """Degrees between quantized and full-precision gradients: of all layers as one vector, and of each by the name of
    its weight."""

    all: float
    each: dict[str, float]

    @property
    def mean(self) -> float:
        """Of the layers' own; NaN where there is none."""
        return float(np.mean(list(self.each.values()))) if self.each else math.nan


class Trainer:
    """A network in training, step by step. Use as a context manager around `step`.

    model: the network, whose parameters hold the rounded weights. batches: what it is trained on, which a method looks
    at. Raises ValueError where it has nothing to train.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        scheme: Scheme,
        recipe: Recipe,
        steps: int,
        method: Method | None = None,
        batches: Sequence[Batch] = (),
    ):
        self.workload, self.model, self.scheme, self.recipe, self.batches = workload, model, scheme, recipe, batches
        self.device = device_of(workload)
        self.streams = Streams(recipe.seed)
        self.flow = DataFlow(model)
        self.weights = weights_of(self.flow.model, scheme, self.streams)
        if not self.weights:
            raise ValueError(f"workload {workload.name}: no parameter of the network requires a gradient")
        self.run = None if method is None else self._start(method)
        delayed = scheme.scale is ScaleRule.DELAYED
        self.places = {
            kind: Places(kind, format, headroom if delayed else None)
            for kind, format, headroom in (
                ("A", scheme.activation, ERROR_HEADROOM),
                ("E", scheme.error, ERROR_HEADROOM),
                ("G", scheme.gradient, GRADIENT_HEADROOM),
            )
            if format is not None
        }
        optimizer = OPTIMIZERS[recipe.optimizer]
        self.optimizer = optimizer(self.weights, recipe.rate, recipe.momentum, recipe.weight_decay)
        self.schedule = schedule_of(self.optimizer, recipe.schedule, recipe.warmup, steps)
        self._measured = measured_parameters(self.flow.model)

    def _start(self, method: Method) -> Run:
        """The method's state, with its parameters, which depend on the first mini-batch, among the weights."""
        model, batch = self.flow.model, self.batches[0]
        with undisturbed(model, self.device), self.flow:
            layers = layers_of(self.flow, lambda: self.workload.loss(model, batch))
            generator = torch.Generator().manual_seed(self.recipe.seed)
            run = method.start(Setup(layers, self.recipe.epochs, self.streams, generator))
            run.begin_epoch(1)
            self.flow.site, run.training, run.calibrating = run.site, True, True
            with torch.no_grad():
                self.workload.loss(model, batch)
            self.flow.site, run.training, run.calibrating = None, False, False
        for name, parameter in run.trained().items():
            self.weights.append(Weight(f"{METHOD}{name}", parameter, False, None, self.scheme, self.streams))
        for weight in self.weights:
            weight.group = run.group(weight.name.removeprefix(METHOD))
        return run

    def _pass_over(self) -> None:
        for batch in self.batches:
            self.workload.loss(self.flow.model, batch)

    def begin_epoch(self, epoch: int) -> None:
        """Before the first step of an epoch, counted from 1, or before the first after a resume."""
        if self.run is not None:
            self.run.begin_epoch(epoch)

    def end_epoch(self, epoch: int) -> None:
        """After the last step of an epoch."""
        if self.run is not None:
            self.flow.site = self.run.site
            self.run.end_epoch(epoch, Training(self.flow.model, self._pass_over))
            self.flow.site = None

    def __enter__(self) -> Trainer:
        self.flow.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.flow.__exit__(*exception)

    def _quantizer(self, kind: str, evaluation: bool) -> Quantizer | None:
        """How the points round activations (A) or errors (E)."""
        places = self.places.get(kind)
        if places is None:
            return None
        round = places.evaluate if evaluation else places.round

        def quantize(x: Tensor, point: Point) -> Tensor:
            if self.scheme.two_terms and (point.two_terms if kind == "A" else point.last):
                return two_terms(x, lambda part, term: round(part, point.name, term))
            return round(x, point.name)

        return quantize

    @contextmanager
    def _rounding(self, evaluation: bool = False) -> Iterator[None]:
        """The points round and the method's sites quantize inside; for evaluation without a trace, and also where no
        gradient is recorded."""
        flow, run = self.flow, self.run
        flow.activation, flow.error, flow.evaluation = (
            self._quantizer("A", evaluation),
            self._quantizer("E", evaluation),
            evaluation,
        )
        flow.pointed = flow.activation is not None or flow.error is not None
        if run is not None:
            flow.site, run.training = run.site, not evaluation
        try:
            yield
        finally:
            flow.activation, flow.error, flow.evaluation, flow.pointed = None, None, False, True
            if run is not None:
                flow.site, run.training = None, False

    def _gradients(self, batch: Batch) -> tuple[float, Sequence[Tensor | None]]:
        """Loss and gradients of all weights; no gradients where the loss is not a finite number."""
        loss = self.workload.loss(self.flow.model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise ValueError(
                f"the loss of workload {self.workload.name} is no tensor of one element that depends on the network"
            )
        value = loss.item()
        penalty = self.run.penalty() if self.run is not None and self.run.training else None
        loss = loss if penalty is None else loss + penalty
        found = self.flow.gradients(loss, [weight.parameter for weight in self.weights]) if math.isfinite(value) else ()
        return value, found

    def step(self, batch: Batch, sample_angle: bool = False) -> tuple[float, Angles | None, list[Observation], str]:
        """One step: the loss before it, the angles if sampled, what rounding did, and why the step was not made (""
        where it was).

        Flips of a method's codes are looked for where the angles are sampled.
        """
        # The full-precision gradient sees the same random numbers.
        full = self._full_precision(batch) if sample_angle else None
        if self.run is not None:
            self.run.begin_step()
        with self._rounding():
            loss, found = self._gradients(batch)
        if not math.isfinite(loss) or loss > self.recipe.loss_bound:
            return (
                loss,
                None,
                [],
                f"the loss is {loss:.6g}" + ("" if math.isnan(loss) else f", above {self.recipe.loss_bound:g}"),
            )
        for weight, gradient in zip(self.weights, found, strict=True):
            if gradient is not None and not gradient.isfinite().all():
                return loss, None, [], f"the gradient of {weight.name} is not finite"
            weight.take_gradient(gradient, self.places.get("G"))
        angles = self._angles(full) if full else None
        codes = self._codes() if sample_angle else {}
        if self.run is not None:
            self.run.before_update({group["name"]: group for group in self.optimizer.param_groups if group["name"]})
        self.optimizer.step()
        self.schedule.step()
        if self.run is not None:
            self.run.end_step()
        seen = [entry for weight in self.weights if (entry := weight.requantize()) is not None]
        if codes:
            now = self._codes()
            seen += [
                Observation("W", name, 0, c.numel(), None, None, None, 0, int((now[name] != c).sum()))
                for name, c in codes.items()
            ]
        if angles is not None:
            left = dict(angles.each)
            seen = [entry._replace(angle=left.pop(entry.place, None)) for entry in seen]
            sizes = {weight.name: weight.parameter.numel() for weight in self.weights}
            seen += [
                Observation("W", name, 0, sizes[name], None, None, None, 0, None, angle) for name, angle in left.items()
            ]
        for places in self.places.values():
            seen += places.advance()
        return loss, angles, seen, ""

    def _codes(self) -> dict[str, Tensor]:
        """The codes of the weights that the method quantizes, by parameter; none where it has no codes."""
        try:
            return {} if self.run is None else {entry.parameter: entry.codes for entry in self.run.exported()}
        except ValueError:  # as an export would say
            return {}

    def _full_precision(self, batch: Batch) -> Sequence[Tensor | None]:
        """The gradients at the master weights without any rounding; the network and the random numbers are as before
        afterwards."""
        own = [(weight.parameter, weight.parameter.data) for weight in self.weights]
        try:
            with undisturbed(self.flow.model, self.device):
                for weight in self.weights:
                    weight.parameter.data = weight.master.data
                return self._gradients(batch)[1]
        finally:
            for parameter, values in own:
                parameter.data = values

    def _angles(self, full: Sequence[Tensor | None]) -> Angles:
        """Between the rounded gradients and the full-precision ones of the parameters that the predictor measures.

        NaN where a method trains other parameters in their place.
        """
        both = {
            weight.name: (weight.master.grad, g)
            for weight, g in zip(self.weights, full, strict=True)
            if id(weight.parameter) in self._measured and (weight.master.grad is not None or g is not None)
        }
        if not both or any(q is None or g is None for q, g in both.values()):
            return Angles(math.nan, {})
        sums = layer_sums(*zip(*both.values(), strict=True))
        return Angles(degrees(sums.sum(0)), {name: degrees(row) for name, row in zip(both, sums, strict=True)})

    def metric(self) -> float | None:
        """Mean metric over the workload's test mini-batches, weights and activations rounded; None where it has none.
        Moves no scale."""
        workload = self.workload
        if workload.test is None or workload.metric is None:
            return None
        test = replace(workload, batches=workload.test).minibatches(
            self.recipe.batch_size if callable(workload.test) else None
        )
        with evaluation_mode(self.flow.model), self._rounding(evaluation=True):
            return float(np.mean([workload.metric(self.flow.model, batch) for batch in test]))

    # Checkpoints.

    def _network(self) -> dict[str, Tensor]:
        model = self.flow.model
        return {**dict(model.named_parameters()), **dict(model.named_buffers())}

    def _masters(self) -> dict[str, Tensor]:
        return {weight.name: weight.master for weight in self.weights}

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the run's state."""
        return {
            **{f"network.{name}": tensor for name, tensor in self._network().items()},
            **{f"master.{name}": tensor for name, tensor in self._masters().items()},
            **checkpoint.optimizer_tensors(self.optimizer),
            **{METHOD + name: tensor for name, tensor in (self.run.tensors() if self.run is not None else {}).items()},
            **_random_state(self.device),
        }

    def state(self) -> dict[str, Any]:
        """The rest of it, as plain values."""
        return {
            "groups": self.optimizer.state_dict()["param_groups"],
            "schedule": self.schedule.state_dict(),
            "stream": self.streams.next,
            "tops": {kind: places.tops for kind, places in self.places.items()},
            "method": {} if self.run is None else self.run.state(),
        }

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any], path: Path) -> None:
        """Go on from what `tensors` and `state` gave."""
        checkpoint.fill(self._network(), tensors, "network.", path)
        checkpoint.fill(self._masters(), tensors, "master.", path)
        checkpoint.restore_optimizer(self.optimizer, tensors, state["groups"])
        self.schedule.load_state_dict(state["schedule"])
        self.streams.next = state["stream"]
        for kind, tops in state["tops"].items():
            self.places[kind].tops = tops
        if self.run is not None:
            own = {name.removeprefix(METHOD): tensor for name, tensor in tensors.items() if name.startswith(METHOD)}
            self.run.restore(own, state["method"])
        _set_random_state(tensors, self.device)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that a network on a device draws from."""
    own = {"generator.device": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"generator": torch.get_rng_state(), **own}


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put what `_random_state` gave back."""
    torch.set_rng_state(state["generator"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["generator.device"], device)


def _fingerprint(workload: Workload, batches: Sequence[Batch]) -> dict[str, Any]:
    """What a checkpoint must agree with before a run goes on from it."""
    return {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "batches": len(batches),
        "first_batch": digest(batches[0]),
        # Sums have other bits on a GPU.
        "device": device_of(workload).type,
    }


def train(
    workload: Workload,
    *,
    activation: str | Format | None = None,
    error: str | Format | None = None,
    weight: str | Format | None = None,
    gradient: str | Format | None = None,
    master: str | Format | None = None,
    weight_rounding: Rounding | str = Rounding.HYSTERESIS,
    master_rounding: Rounding | str = Rounding.STOCHASTIC,
    scale: ScaleRule | str = ScaleRule.DELAYED,
    two_terms: bool = True,
    method: Method | None = None,
    epochs: int,
    seed: int = 0,
    output: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    tensorboard: bool = False,
    progress: Callable[[Progress], None] | None = None,
    **recipe: Any,
) -> Result:
    """Train a copy of a workload's network, where it is, with everything rounded; by default the scheme of the paper.

    activation, error, weight, gradient, master: formats by name or as objects; "float32" leaves a tensor as it is. By
    default FP134, and FP169 for the master; with a method float32. The master's is also the momentum's. Weights of
    convolutions get one scale an output channel, other weights one a tensor.
    weight_rounding: nearest, stochastic or hysteresis. master_rounding: nearest or stochastic. scale: delayed or
    current.
    two_terms: round network inputs and last errors in two terms.
    method: a published training method (`training.methods`), which quantizes layers in its own way, beside the rounding
    that the formats ask for.
    output: a folder for checkpoint, settings, result, steps.parquet, epochs.csv and the Parquet files of layers/.
    resume: go on from its checkpoint, if there is one; the result then has the same bits as that of an uninterrupted
    run at the same number of threads. force: replace an earlier run.
    tensorboard: write losses, angles, flips and metrics into its folder tensorboard/ too, which needs that package.
    progress: called after every step.
    epochs, seed, recipe: the fields of `training.train.Recipe`, such as batch_size, optimizer and rate.

    Mini-batches are those of `workload.train`, else `workload.batches`, in an order drawn anew for every epoch. Random
    numbers of the workload's own code have to come from torch's generator to be the same after a resume.

    Raises ValueError for names and numbers that mean nothing and for a checkpoint that is damaged or of another run;
    FileExistsError where the folder holds a run and neither resume nor force is given, or another process is writing to
    it; OSError where it cannot be written, and the last checkpoint then stands. Source: docs/definitions/training.md,
    after Lee, Park, Jeon, ICLR 2022, sections 3 and 4.
    """
    chosen = Recipe(epochs=epochs, seed=seed, **recipe)
    usual, usual_master = ("FP134", "FP169") if method is None else (FULL_PRECISION, FULL_PRECISION)
    scheme = Scheme(
        activation=training_format(usual if activation is None else activation),
        error=training_format(usual if error is None else error),
        weight=training_format(usual if weight is None else weight),
        gradient=training_format(usual if gradient is None else gradient),
        master=training_format(usual_master if master is None else master),
        weight_rounding=one_of("weight rounding", Rounding, weight_rounding),
        master_rounding=one_of("master rounding", Rounding, master_rounding),
        scale=one_of("scale", ScaleRule, scale),
        two_terms=two_terms,
    )
    source = workload.batches if workload.train is None else workload.train
    batches = replace(workload, batches=source).minibatches(chosen.batch_size)
    settings = {**asdict(chosen), **scheme.settings, **settings_of(method), **_fingerprint(workload, batches)}
    folder = None if output is None else Path(output)
    if tensorboard and folder is None:
        raise ValueError("tensorboard needs an output, the folder to write to")
    with nullcontext() if folder is None else hold(folder):
        return _train(workload, batches, scheme, chosen, method, settings, folder, resume, force, tensorboard, progress)


def _train(
    workload: Workload,
    batches: Sequence[Batch],
    scheme: Scheme,
    chosen: Recipe,
    method: Method | None,
    settings: dict[str, Any],
    folder: Path | None,
    resume: bool,
    force: bool,
    tensorboard: bool,
    progress: Callable[[Progress], None] | None,
) -> Result:
    """`train` with its arguments checked, in a folder that no other process writes to."""
    path = None if folder is None else folder / checkpoint.NAME
    if path is not None and path.exists() and not (resume or force):
        raise FileExistsError(f"{path} exists; use --resume to go on from it or --force to replace it")
    model = copy.deepcopy(workload.model).train()
    steps = chosen.epochs * len(batches)
    # The caller's random numbers are not ours to move.
    with torch.random.fork_rng(devices=[] if settings["device"] == "cpu" else range(torch.cuda.device_count())):
        torch.manual_seed(chosen.seed)
        if chosen.start is Start.SCRATCH:
            start_from_scratch(model)
        trainer, log = Trainer(workload, model, scheme, chosen, steps, method, batches), Log(folder)
        first = 0
        if path is not None and resume and path.exists():
            tensors, state = checkpoint.read(path)
            # The first checkpoints did not say where; it was the CPU.
            saved = {"device": "cpu", **state["settings"]}
            # How often it is saved makes no difference.
            check_same(path, saved, settings, leaving_out=("checkpoint_every",))
            trainer.restore(tensors, state, path)
            first = state["step"]
            log.restore(first, state["epochs"])
        elif path is not None:
            path.unlink(missing_ok=True)
            log.clear()
        recorded = {
            **settings,
            "threads": torch.get_num_threads(),
            "versions": versions_of("torch", NAME),
        }
        if folder is not None:
            (folder / RESULT).unlink(missing_ok=True)
            write_json(folder / SETTINGS, recorded)
        with Board(folder, first) if tensorboard and folder is not None else nullcontext() as board:
            reason = _run(trainer, batches, first, log, board, path, settings, progress)
    model.eval()
    outcome = Outcome.DIVERGED if reason else Outcome.FINISHED
    metric = log.epochs[-1]["metric"] if log.epochs else None
    if folder is not None:
        write_json(folder / RESULT, {"outcome": outcome, "reason": reason, "steps": len(log.steps), "metric": metric})
    return Result(model, outcome, reason, log.step_table(), log.epoch_table(), metric, recorded, trainer.run, log)


def _run(
    trainer: Trainer,
    batches: Sequence[Batch],
    first: int,
    log: Log,
    board: Board | None,
    path: Path | None,
    settings: dict[str, Any],
    progress: Callable[[Progress], None] | None,
) -> str:
    """The steps from `first` on. Returns why the run diverged, "" where it did not; its last checkpoint then stands."""
    recipe, count = trainer.recipe, len(batches)
    total = recipe.epochs * count
    with trainer:
        for step in range(first, total):
            epoch, place = divmod(step, count)
            if place == 0 or step == first:
                order = np.random.default_rng((recipe.seed, epoch)).permutation(count)
                trainer.begin_epoch(epoch + 1)
            began = time.monotonic()
            rate = trainer.schedule.get_last_lr()[0]
            sampled = bool(recipe.angle_every) and step % recipe.angle_every == 0
            loss, angles, seen, reason = trainer.step(batches[order[place]], sampled)
            angle, layer_angle = (None, None) if angles is None else (angles.all, angles.mean)
            row = {
                "step": step + 1,
                "epoch": epoch + 1,
                "loss": loss,
                "rate": rate,
                "angle": angle,
                "layer_angle": layer_angle,
            }
            row["seconds"] = time.monotonic() - began
            log.add(row, seen)
            if board is not None:
                board.step(row)
            if reason:
                # On a resume these rows are dropped: they lie beyond the checkpoint.
                log.save(step + 1)
                return f"{reason} at step {step + 1}"
            ends_epoch = place == count - 1
            if ends_epoch:
                trainer.end_epoch(epoch + 1)
                losses = [entry["loss"] for entry in log.steps[-count:]]
                is_due = (epoch + 1) % recipe.metric_every == 0 or epoch + 1 == recipe.epochs
                log.epochs.append(
                    {"epoch": epoch + 1, "loss": float(np.mean(losses)), "metric": trainer.metric() if is_due else None}
                )
                if board is not None:
                    board.epoch(log.epochs[-1], step + 1)
            if ends_epoch or (recipe.checkpoint_every and (step + 1) % recipe.checkpoint_every == 0):
                log.save(step + 1)
                if path is not None:
                    state = {"step": step + 1, "settings": settings, "epochs": log.epochs, **trainer.state()}
                    checkpoint.write(path, trainer.tensors(), state)
            if progress is not None:
                metric = next((entry["metric"] for entry in reversed(log.epochs) if entry["metric"] is not None), None)
                progress(Progress(step + 1, total, epoch + 1, recipe.epochs, loss, metric))
    return ""
