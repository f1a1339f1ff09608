"""What commands print: text as it is, tables, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from reports.tables.layout import Part

WIDTH = 10_000
"""That a table in a file or a pipe may have, in characters: nothing is cut there."""


def say(*parts: Part) -> None:
    """To standard output: lines as they are, but for what would steer the terminal; a table that is wider than the
    terminal in pieces below each other."""
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
    from rich.measure import Measurement
    from rich.text import Text

    # Without markup and emoji, which names such as hf:llama:7b and [0] would be taken for.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH

    def fits(piece: Table) -> bool:
        options = console.options.update(max_width=WIDTH)
        return Measurement.get(console, options, piece).maximum <= console.width

    # A title is as wide as it is, however narrow its table.
    title, part.title = part.title, None
    with console.capture() as drawn:
        if title:
            console.print(Text(str(title), style="bold"), soft_wrap=True)
        joined = _joined(part)
        for piece in _pieces(joined, fits) if console.is_terminal else [joined]:
            console.print(piece)
    part.title = title
    return drawn.get().removesuffix("\n")


def _joined(table: Table) -> Table:
    """The same without columns that say nothing, and with all rows between two rules as one, whose cells have many
    lines: rich takes its time for each cell. The cells are text of one line, as `reports.tables.layout.plain` makes
    them."""
    columns = {place: [str(cell) for cell in column.cells] for place, column in enumerate(table.columns)}
    told = [place for place, cells in columns.items() if any(cells) or not cells]
    ends = [number + 1 for number, row in enumerate(table.rows) if row.end_section]
    joined = copy(table)
    joined.columns = [replace(table.columns[place], _index=number, _cells=[]) for number, place in enumerate(told)]
    joined.rows = []
    for first, last in pairwise(sorted({0, *ends, len(table.rows)})):
        joined.add_row(*("\n".join(columns[place][first:last]) for place in told), end_section=last in ends)
    return joined


def _pieces(table: Table, fits: Callable[[Table], bool]) -> list[Table]:
    """The table, or where it is too wide pieces that fit: its columns in their order, in each piece behind those that
    say which row it is, which are the first of text and what stands before them."""

    def of(numbers: Sequence[int]) -> Table:
        piece = copy(table)
        piece.columns = [replace(table.columns[number], _index=place) for place, number in enumerate(numbers)]
        return piece

    if fits(table):
        return [table]
    sides = [column.justify for column in table.columns]
    named = sides.index("left") + 1 if "left" in sides else 1
    while named + 1 < len(sides) and sides[named] == "left" and fits(of(range(named + 2))):
        named += 1
    names, pieces = list(range(named)), [[named]] if named < len(sides) else []
    for number in range(named + 1, len(sides)):
        if fits(of([*names, *pieces[-1], number])):
            pieces[-1].append(number)
        else:
            pieces.append([number])
    return [of([*names, *numbers]) for numbers in pieces] or [table]
