"""A table of text, as all of ours are drawn. Without pandas, which takes longer to load than short commands run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from rich import box
from rich.table import Table

from numeric_formats.messages import printable

Part: TypeAlias = Table | str
"""Of what is printed: a table, or a line."""


def plain(
    title: str | None, headers: Iterable[tuple[str, str]], rows: Iterable[Iterable[str]], ruled: Iterable[int] = ()
) -> Table:
    """A table of text; headers are (name, "left" or "right"), and a line is drawn below each row of `ruled`. What could
    steer a terminal is written as escapes."""
    table = Table(
        title=title and printable(title), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False
    )
    for name, side in headers:
        table.add_column(printable(name), justify="right" if side == "right" else "left", no_wrap=True)
    below = set(ruled)
    for number, row in enumerate(rows):
        table.add_row(*map(printable, row), end_section=number in below)
    return table
