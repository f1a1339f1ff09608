"""What commands print: text as it is, tables, and JSON."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from reports.tables.layout import Part

WIDTH = 200
"""Of a table in a file or a pipe, in characters."""


def say(*parts: Part) -> None:
    """To standard output: lines as they are, but for what would steer the terminal; a table as wide as the terminal, or
    as `WIDTH`."""
    from numeric_formats.messages import printable

    for part in parts:
        typer.echo("\n".join(map(printable, part.split("\n"))) if isinstance(part, str) else _drawn(part))


def tell(line: str) -> None:
    """To standard error at once: what is being done, where nothing is shown for a while."""
    from numeric_formats.messages import printable

    typer.echo(printable(line), err=True)


def say_json(value: Any, indent: int | None = None) -> None:
    """To standard output, as JSON."""
    typer.echo(json.dumps(value, indent=indent))


def _drawn(part: Table) -> str:
    from rich.console import Console
    from rich.text import Text

    # Without markup and emoji, which names such as hf:llama:7b and [0] would be taken for.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    # A title is as wide as it is, however narrow its table.
    title, part.title = part.title, None
    with console.capture() as drawn:
        if title:
            console.print(Text(str(title), style="bold"), soft_wrap=True)
        console.print(_joined(part))
    part.title = title
    return drawn.get().removesuffix("\n")


def _joined(table: Table) -> Table:
    """The same with all rows between two rules as one, whose cells have many lines: rich takes its time for each cell.
    For cells that are text of one line, as `reports.tables.layout.plain` makes them."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    ends = [number + 1 for number, row in enumerate(table.rows) if row.end_section]
    joined = copy(table)
    joined.columns = [replace(column, _cells=[]) for column in table.columns]
    joined.rows = []
    for first, last in pairwise(sorted({0, *ends, len(table.rows)})):
        joined.add_row(*("\n".join(cells[first:last]) for cells in columns), end_section=last in ends)
    return joined
