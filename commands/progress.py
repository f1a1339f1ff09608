"""Progress on standard error: a bar on a terminal, a line every tenth in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from commands.errors import INTERRUPTED

if TYPE_CHECKING:
    from search.stages import Progress
    from training.train import Progress as TrainingProgress
    from training.validation import At


@contextmanager
def ranking_bar() -> Iterator[Any]:
    """A function that shows a ranking's progress, with the time left, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True))
    tasks: dict[str, Any] = {}

    def show(progress: Progress) -> None:
        if not tasks and bar.console.is_terminal:
            bar.start()
        if progress.stage not in tasks:
            tasks[progress.stage] = bar.add_task(progress.stage.value, total=progress.total)
        task = bar.tasks[tasks[progress.stage]]
        if progress.done < task.completed:  # of the next network
            bar.reset(task.id, total=progress.total)
        tenth = int(10 * progress.done / progress.total)
        if not bar.console.is_terminal and tenth > int(10 * task.completed / progress.total):
            # A log gets a line every tenth.
            left = task.elapsed / progress.done * (progress.total - progress.done) if task.elapsed else 0
            typer.echo(f"{progress.stage.value} {progress.done}/{progress.total}, about {left:.0f} s left", err=True)
        bar.update(task.id, completed=progress.done)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def _line(description: str, again: str) -> Iterator[Any]:
    """A function (done, of, text) that shows progress on one line of standard error; a log gets a line every tenth.
    again: what Ctrl-C has one told."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True))
    task = bar.add_task(description)
    if bar.console.is_terminal:
        bar.start()

    def show(done: int, of: int, text: str) -> None:
        if not bar.console.is_terminal and 10 * done // of > 10 * (done - 1) // of:
            typer.echo(f"step {done}/{of}, {text}", err=True)
        bar.update(task, completed=done, total=of, description=text)

    try:
        yield show
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if bar.live.is_started:
            bar.stop()


def _resuming(output: Path | None, kept: str) -> str:
    return (
        "nothing is kept without --output"
        if output is None
        else f"the same command with --resume goes on from {kept} in {output}"
    )


@contextmanager
def training_line(output: Path | None) -> Iterator[Any]:
    """A function that shows a training run's progress."""
    with _line("training", _resuming(output, "the last checkpoint")) as show:

        def show_training(at: TrainingProgress) -> None:
            metric = "" if at.metric is None else f", metric {at.metric:.4f}"
            show(at.step, at.steps, f"epoch {at.epoch}/{at.epochs}, loss {at.loss:.4f}{metric}")

        yield show_training


@contextmanager
def quantization_line(output: Path | None) -> Iterator[Any]:
    """A function that shows how far each stage of a quantization is."""
    with _line("quantizing", _resuming(output, "what was finished")) as show:
        yield lambda at: show(at.done, at.of, at.stage)


@contextmanager
def validation_line() -> Iterator[Any]:
    """A function that shows how far all trainings of a validation are, and the one at hand."""
    with _line("trainings", "the same command goes on") as show:

        def show_validation(at: At) -> None:
            training = at.training
            done = (at.run - 1) * training.steps + training.step
            show(
                done,
                at.runs * training.steps,
                f"run {at.run}/{at.runs}, {at.name} seed {at.seed}, loss {training.loss:.4f}",
            )

        yield show_validation
