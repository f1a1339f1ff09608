"""The training loop: any workload, any formats (docs/definitions/training.md sections 1 to 3). One
step of it is `Trainer.step` in training/step.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from formats import Format, Rounding
from formats.lookup import FULL_PRECISION, format_or_none
from numeric_formats.checks import one_of
from numeric_formats.files import check_same, hold, write_json
from numeric_formats.progress import Progress, Report, quiet
from predictor.measuring.store import Store
from predictor.scheme import Preset, ScaleRule, Scheme, scheme_of, with_all_parts
from predictor.self_check import Checked
from training import checkpoint
from training.board import Board
from training.checking import check_flow, check_memory
from training.log import LAYERS, Log
from training.methods.method import Method, settings_of
from training.optimizers import Optimizer, Schedule
from training.reproducible import fingerprint, installation
from training.result import Outcome, Result, reported_metric
from training.scheme import TensorFormats
from training.settings import Start, TrainingSettings
from training.starting import start_from_scratch
from training.step import Trainer
from workloads.copies import copied
from workloads.workload import Batch, Workload

SETTINGS, RESULT = "settings.json", "result.json"
SETTLE, STEP = "settle", "step"
"""Stages of progress."""
ANOTHER = "give what it was made with or another output, or start with --force"
"""What helps where a checkpoint is of another run."""


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
    scheme: Scheme | str = Preset.PAPER,
    scale: ScaleRule | str | None = None,
    two_terms: bool = True,
    method: Method | None = None,
    epochs: int,
    batch_size: int | None = None,
    optimizer: Optimizer | str = Optimizer.SGD,
    rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    schedule: Schedule | str = Schedule.COSINE,
    warmup: int = 0,
    start: Start | str = Start.SCRATCH,
    seed: int = 0,
    loss_bound: float = 1000.0,
    checkpoint_every: int = 0,
    angle_every: int = 0,
    metric_every: int = 1,
    hysteresis_epochs: int | None = None,
    output: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    tensorboard: bool = False,
    store: Store | None = None,
    progress: Report = quiet,
) -> Result:
    """Train a copy of a workload's network, where it is, with everything rounded; by default the scheme of the paper.

    Formats are given by name or as objects; "float32" leaves a tensor as it is. By default they are FP134, and FP169
    for the master; with a method float32.

    Mini-batches are those of `workload.train`, else `workload.batches`, in an order drawn anew for every epoch. Random
    numbers of the workload's own code have to come from torch's generator to be the same after a resume.

    Args:
        workload: Network, loss, mini-batches, and what it is tested with.
        activation: Format of activations.
        error: Of errors, the gradients of activations.
        weight: Of weights; by default those of convolutions get one scale an output channel, others one a tensor.
        gradient: Of weight gradients.
        master: Of master weights and of their momentum.
        weight_rounding: `nearest`, `stochastic` or `hysteresis`.
        master_rounding: `nearest` or `stochastic`.
        scheme: By which tensors are rounded: `paper`, `current`, `authors`, one of these with parts that differ
            (`paper,branches=yes`), or a `predictor.scheme.Scheme`, which says what they are.
        scale: Instead of the scheme's: `delayed` or `current`.
        two_terms: Round network inputs and last errors in two terms.
        method: A published training method (`training.methods`), which quantizes layers in its own way, beside the
            rounding that the formats ask for.
        epochs: Passes over the mini-batches.
        batch_size: None for the workload's.
        optimizer: `sgd` or `adamw`.
        rate: The largest learning rate.
        momentum: Of SGD, or the first of AdamW's.
        weight_decay: Weight decay.
        schedule: `constant`, `cosine` or `steps` (a tenth after 1/2 and 3/4 of the run).
        warmup: Steps in which the learning rate rises.
        start: `scratch` for new random weights, or `pretrained` for those that the workload comes with.
        seed: Decides new weights, the order of mini-batches, random numbers of the network and of stochastic rounding.
        loss_bound: A loss above it ends the run as diverged.
        checkpoint_every: Steps between checkpoints within an epoch; 0 for the ends of epochs alone.
        angle_every: Steps between samples of the angle to the full-precision gradient; 0 for none.
        metric_every: Epochs between metrics; the last epoch has one.
        hysteresis_epochs: After so many epochs weights are rounded to nearest instead; None for never.
        output: A folder for checkpoint, settings, result, steps.parquet, epochs.csv and the Parquet files of layers/.
        resume: Go on from its checkpoint, if there is one; the result then has the same bits as that of an
            uninterrupted run at the same number of threads.
        force: Replace an earlier run.
        store: Where it is found and kept that the flow was held against torch (`predictor.self_check`).
        tensorboard: Write losses, angles, flips and metrics into its folder tensorboard/ too, which needs that package.
        progress: Called after every step.

    Returns:
        The trained network and what is known of the run.

    Raises:
        ValueError: For names and numbers that mean nothing, for a checkpoint that is damaged or of another run, where
            the flow that rounds is not what torch computes, and where a method finds nothing to quantize.
        FileExistsError: Where the folder holds a run and neither resume nor force is given, or another process is
            writing to it.
        OSError: Where the folder cannot be written; the last checkpoint then stands.

    Source:
        docs/definitions/training.md, after Lee, Park, Jeon, ICLR 2022, sections 3 and 4.
    """
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        rate=rate,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=warmup,
        start=start,
        seed=seed,
        loss_bound=loss_bound,
        checkpoint_every=checkpoint_every,
        angle_every=angle_every,
        metric_every=metric_every,
        hysteresis_epochs=hysteresis_epochs,
    )
    usual, usual_master = ("FP134", "FP169") if method is None else (FULL_PRECISION, FULL_PRECISION)
    tensor_formats = TensorFormats(
        activation=format_or_none(usual if activation is None else activation),
        error=format_or_none(usual if error is None else error),
        weight=format_or_none(usual if weight is None else weight),
        gradient=format_or_none(usual if gradient is None else gradient),
        master=format_or_none(usual_master if master is None else master),
        weight_rounding=one_of("weight rounding", Rounding, weight_rounding),
        master_rounding=one_of("master rounding", Rounding, master_rounding),
        scheme=scheme_of(scheme, scale=scale, two_terms=two_terms),
    )
    if hysteresis_epochs is not None and tensor_formats.weight_rounding is not Rounding.HYSTERESIS:
        raise ValueError(
            f"hysteresis epochs {hysteresis_epochs}: weight rounding is {tensor_formats.weight_rounding.value}; give "
            "both only with hysteresis"
        )
    workload.require_numbers()
    folder = None if output is None else Path(output)
    source = workload.batches if workload.train is None else workload.train
    batches = replace(workload, batches=source).minibatches(settings.batch_size)
    made_from = fingerprint(workload, batches, folder is not None)
    recorded = {**asdict(settings), **tensor_formats.settings, **settings_of(method), **made_from}
    if tensorboard and folder is None:
        raise ValueError("tensorboard needs an output, the folder to write to")
    run = _Run(
        *(workload, batches, tensor_formats, settings, method, recorded),
        *(folder, resume, force, tensorboard, store, progress),
    )
    with nullcontext() if folder is None else hold(folder, LAYERS):
        return run.result()


@dataclass(frozen=True, eq=False)
class _Run:
    """`train` with its arguments checked, in a folder that no other process writes to.

    recorded: the settings as plain values, which a checkpoint has to agree with.
    """

    workload: Workload
    batches: Sequence[Batch]
    tensor_formats: TensorFormats
    settings: TrainingSettings
    method: Method | None
    recorded: dict[str, Any]
    folder: Path | None
    resume: bool
    force: bool
    tensorboard: bool
    store: Store | None
    progress: Report

    @property
    def path(self) -> Path | None:
        """The checkpoint's."""
        return None if self.folder is None else self.folder / checkpoint.NAME

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.settings.epochs * len(self.batches)

    def result(self) -> Result:
        """The run, from its start or its checkpoint to its end."""
        path, folder = self.path, self.folder
        if path is not None and path.exists() and not (self.resume or self.force):
            raise FileExistsError(f"{path} exists; use --resume to go on from it or --force to replace it")
        rounds = self.method is not None or any(
            each is not None for each in (self.tensor_formats.activation, self.tensor_formats.error)
        )
        check_memory(self.workload)
        checked = check_flow(self.workload, self.store) if rounds else None
        model = copied(self.workload.model).train()
        settings = {**self.recorded, **installation()}
        on_cpu = self.recorded["device"] == "cpu"
        # The caller's random numbers are not ours to move.
        with torch.random.fork_rng(devices=[] if on_cpu else range(torch.cuda.device_count())):
            torch.manual_seed(self.settings.seed)
            if self.settings.start is Start.SCRATCH:
                start_from_scratch(model)
            trainer = Trainer(
                self.workload, model, self.tensor_formats, self.settings, self.steps, self.method, self.batches
            )
            covered = self._covered(trainer, checked)
            log = Log(folder)
            first = self._restored(trainer, log)
            if folder is not None:
                (folder / RESULT).unlink(missing_ok=True)
                write_json(folder / SETTINGS, settings)
            with Board(folder, first) if self.tensorboard and folder is not None else nullcontext() as board:
                reason = self._train(trainer, first, log, board)
        model.eval()
        outcome = Outcome.DIVERGED if reason else Outcome.FINISHED
        best = self.tensor_formats.scheme.best_epoch
        metric = reported_metric(log.epochs, best, self.workload.lower_is_better)
        if folder is not None:
            content = {"outcome": outcome, "reason": reason, "steps": len(log.steps), "metric": metric}
            content |= {"coverage": covered, "method": None if trainer.coverage is None else trainer.coverage.plain()}
            write_json(folder / RESULT, content)
        state = None if self.method is None else trainer.method
        steps, epochs = log.step_table(), log.epoch_table()
        return Result(model, outcome, reason, steps, epochs, metric, settings, tuple(covered), state, log)

    def _covered(self, trainer: Trainer, checked: Checked | str | None) -> list[str]:
        """What `Result.coverage` says."""
        said = []
        if isinstance(checked, str):
            said.append(f"the flow was not held against torch's own gradient: {checked}")
        elif checked is not None and (
            self.tensor_formats.activation is not None
            or self.tensor_formats.error is not None
            or not checked.coverage.is_whole  # which a method does not see either
        ):
            said.append(checked.sentence)
        if trainer.coverage is not None:
            said += [line for line in (trainer.coverage.sentence, trainer.coverage.remainder) if line]
        return said

    def _restored(self, trainer: Trainer, log: Log) -> int:
        """Go on from the checkpoint, or remove what an earlier run left; the number of steps that are done."""
        path, folder = self.path, self.folder
        if path is None or folder is None:
            return 0
        if not (self.resume and path.exists()):
            # In this order, whenever it is ended: the earlier run goes on, or its rest is removed by the next one.
            (folder / RESULT).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            log.clear()
            return 0
        tensors, state = checkpoint.read(path)
        with checkpoint.restoring(path):
            # How often a run is saved makes no difference to it, nor does what a scheme's parts together are called.
            before, other = with_all_parts(state["settings"]), ("checkpoint_every", "scheme")
            check_same(path, before, self.recorded, ANOTHER, leaving_out=other)
            step, epochs = state["step"], state["epochs"]
            if type(step) is not int or not 0 < step <= self.steps or len(epochs) != step // len(self.batches):
                raise ValueError(f"it is of step {step!r} in {len(epochs)} epochs")
            for epoch in epochs:
                checkpoint.check_kind(
                    path, "an epoch", dict.fromkeys(("epoch", "loss", "metric")), dict.fromkeys(epoch)
                )
            trainer.restore(tensors, state, path)
            log.restore(step, epochs, state["log"])
        return step

    def _train(self, trainer: Trainer, first: int, log: Log, board: Board | None) -> str:
        """The steps from `first` on. Returns why the run diverged, "" where it did not; its last checkpoint then
        stands."""
        count, every = len(self.batches), self.settings.checkpoint_every
        with trainer:
            if not first:
                self._settle(trainer)
            for step in range(first, self.steps):
                epoch, place = divmod(step, count)
                if place == 0 or step == first:
                    order = self._order(epoch)
                    trainer.begin_epoch(epoch + 1)
                row, stopped = self._step(trainer, step, self.batches[order[place]], log)
                if board is not None:
                    board.step(row)
                if stopped:
                    # On a resume these rows are dropped: they lie beyond the checkpoint.
                    log.save(step + 1)
                    return f"{stopped} at step {step + 1}"
                ends_epoch = place == count - 1
                if ends_epoch:
                    self._end_epoch(trainer, epoch + 1, log)
                    if board is not None:
                        board.epoch(log.epochs[-1], step + 1)
                if ends_epoch or (every and (step + 1) % every == 0):
                    log.save(step + 1)
                    if self.path is not None:
                        state = {"step": step + 1, "settings": self.recorded, "epochs": log.epochs}
                        state |= {"log": log.digests(), **trainer.state()}
                        checkpoint.write(self.path, trainer.tensors(), state)
                self.progress(Progress(STEP, step + 1, self.steps, self._note(epoch + 1, row["loss"], log)))
        return ""

    def _order(self, epoch: int) -> Sequence[int]:
        """That of the mini-batches in an epoch, counted from 0."""
        found: list[int] = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.batches)).tolist()
        return found

    def _settle(self, trainer: Trainer) -> None:
        """Let delayed scales settle, on the mini-batches of the first steps; again from the first one where there are
        too few."""
        passes, order = self.tensor_formats.scheme.settling, self._order(0)
        for number in range(passes if trainer.rounded.settles else 0):
            trainer.settle(self.batches[order[number % len(order)]])
            self.progress(Progress(SETTLE, number + 1, passes))

    def _step(self, trainer: Trainer, step: int, batch: Batch, log: Log) -> tuple[dict[str, Any], str]:
        """One step, its row in the log, and why it was not made."""
        began = time.monotonic()
        rate = trainer.schedule.get_last_lr()[0]
        every = self.settings.angle_every
        found = trainer.step(batch, bool(every) and step % every == 0)
        row = {
            "step": step + 1,
            "epoch": step // len(self.batches) + 1,
            "loss": found.loss,
            "rate": rate,
            "angle": None if found.angles is None else found.angles.all,
            "layer_angle": None if found.angles is None else found.angles.mean,
            "seconds": time.monotonic() - began,
        }
        log.add(row, found.seen)
        return row, found.stopped

    def _end_epoch(self, trainer: Trainer, epoch: int, log: Log) -> None:
        """The epoch's row in the log, with a metric where one is due."""
        trainer.end_epoch(epoch)
        losses = [entry["loss"] for entry in log.steps[-len(self.batches) :]]
        is_due = epoch % self.settings.metric_every == 0 or epoch == self.settings.epochs
        log.epochs.append(
            {"epoch": epoch, "loss": float(np.mean(losses)), "metric": trainer.metric() if is_due else None}
        )

    def _note(self, epoch: int, loss: float, log: Log) -> str:
        """Epoch, the last loss, and the last metric where there is one, in words."""
        metric = next((entry["metric"] for entry in reversed(log.epochs) if entry["metric"] is not None), None)
        shown = "" if metric is None else f", metric {metric:.4f}"
        return f"epoch {epoch}/{self.settings.epochs}, loss {loss:.4f}{shown}"
