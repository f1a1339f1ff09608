"""The training loop: any workload, any formats (docs/definitions/training.md sections 1 to 4). One
step of it is `Trainer.step` in training/step.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numeric_formats.files import check_same, write_json
from numeric_formats.progress import Progress, Report
from predictor.measuring.self_check import Checked
from predictor.measuring.store import Store
from predictor.scheme import with_all_parts
from training import checkpoint
from training.board import Board
from training.checking import check_flow, check_memory
from training.log import Log
from training.methods.method import Method
from training.recipe_steps import TrainedRecipe
from training.reproducible import installation
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


@dataclass(frozen=True, eq=False)
class Run:
    """A training whose arguments were checked, in a folder that no other process writes to.

    recorded: the settings as plain values, which a checkpoint has to agree with.
    """

    workload: Workload
    batches: Sequence[Batch]
    tensor_formats: TensorFormats
    settings: TrainingSettings
    method: Method | None
    recipe: TrainedRecipe | None
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
        flow = (self.method, self.recipe, self.tensor_formats.activation, self.tensor_formats.error)
        rounds = any(each is not None for each in flow)
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
                *(self.workload, model, self.tensor_formats, self.settings, self.steps),
                *(self.method, self.batches, self.recipe),
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
            content |= {"recipe": None if self.recipe is None else self.recipe.plain()}
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
            or not checked.coverage.is_whole  # which a method or a recipe does not see either
        ):
            said.append(checked.sentence)
        if trainer.coverage is not None:
            said += [line for line in (trainer.coverage.sentence, trainer.coverage.remainder) if line]
        if trainer.recipe is not None:
            said.append(trainer.recipe.sentence)
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
