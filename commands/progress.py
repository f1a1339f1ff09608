"""Progress on standard error, one display for all commands: bars on a terminal, a line every tenth in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from commands.errors import INTERRUPTED

_HEARS: list[object] = []
_TOLD: list[bool] = []
"""What listens to numba, and whether it has spoken; once a process."""

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from numeric_formats.progress import Progress, Report


def tell_of_compiling() -> None:
    """From now on the first kernel that is compiled, which the cache of numba then holds, is told of."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, _: object) -> None:
            if not _TOLD:
                _TOLD.append(True)
                typer.echo("compiling kernels, once", err=True)

        def on_end(self, _: object) -> None:
            pass

    if not _HEARS:
        _HEARS.append(Listener())
        event.register("numba:compile", _HEARS[0])


@dataclass(frozen=True)
class Display:
    """Shows how far a long piece of work is when it is called, and what is known by now.

    Attributes:
        show: shows progress.
        lead: shows a short table of what is known by now in place of the one before; a log gets the line.
    """

    show: Report
    lead: Callable[[Table, str], None]

    def __call__(self, progress: Progress) -> None:
        self.show(progress)


@contextmanager
def progress_shown() -> Iterator[Display]:
    """What shows how far a long piece of work is, with the time left."""
    from rich.console import Console

    from numeric_formats.messages import printable

    tell_of_compiling()

    console = Console(stderr=True, markup=False, emoji=False)
    if console.is_terminal:
        with _bars(console) as display:
            yield display
    else:
        yield Display(_lines(), lambda _, line: typer.echo(printable(line), err=True))


@contextmanager
def _bars(console: Console) -> Iterator[Display]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    from numeric_formats.messages import printable

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    leading: list[RenderableType] = []

    class Refined(Bars):
        """Bars below what is known by now."""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield from leading
            yield from super().get_renderables()

    bars, tasks = Refined(*columns, console=console), {}

    def lead(table: Table, _: str) -> None:
        untitled = copy(table)
        untitled.title = None
        leading[:] = [Text(str(table.title), style="bold"), untitled]  # as wide as it is, however narrow its table
        bars.start()
        bars.refresh()

    def show(progress: Progress) -> None:
        bars.start()  # only once there is something to show
        if progress.stage not in tasks:
            tasks[progress.stage] = bars.add_task(printable(progress.stage), total=progress.total, note="")
        task = tasks[progress.stage]
        if progress.done < bars.tasks[task].completed:  # of the next network
            bars.reset(task, total=progress.total)
        bars.update(task, completed=progress.done, total=progress.total, note=printable(progress.note))

    try:
        yield Display(show, lead)
    finally:
        if bars.live.is_started:
            leading.clear()  # whatever comes after it says more
            bars.stop()


@dataclass
class _Heard:
    """What a log knows of a stage: since when, and from where, which in a run that goes on is not the beginning."""

    first: int
    done: int
    began: float = field(default_factory=time.monotonic)


def _lines() -> Report:
    from numeric_formats.messages import lasting, printable

    stages: dict[str, _Heard] = {}

    def show(progress: Progress) -> None:
        done, total = progress.done, max(1, progress.total)
        heard = stages.get(progress.stage)
        if heard is None or done < heard.done:  # of the next network
            heard = stages[progress.stage] = _Heard(done, 0)
        if 10 * done // total > 10 * heard.done // total:
            line = f"{progress.stage} {done}/{progress.total}" + (f", {progress.note}" if progress.note else "")
            if heard.first < done < total:
                left = (time.monotonic() - heard.began) / (done - heard.first) * (total - done)
                line += f", about {lasting(left)} left"
            typer.echo(printable(line), err=True)
        heard.done = done

    return show


@contextmanager
def interruptible(again: str) -> Iterator[None]:
    """Ctrl-C inside is told so: again says how one goes on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def resuming(output: Path | None, kept: str) -> str:
    """How a command goes on that keeps something in --output."""
    if output is None:
        return "nothing is kept without --output"
    return f"the same command with --resume goes on from {kept} in {output}"
