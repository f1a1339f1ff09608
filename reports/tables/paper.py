"""A result's table for a paper or a page: LaTeX, Markdown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from predictor.columns import (
    EFFECT,
    FORMAT,
    LAYER,
    NAME,
    RANK,
    RECIPE,
    angle_column,
    effects_in,
    high_column,
    low_column,
)
from reports import results
from reports.tables import rankings, recipes
from reports.tables.cells import bounded
from reports.tables.layout import plain


def table_of(path: Path, top: int, within: float) -> Table:
    """The table that a command has printed of a result; of a measurement without the gap.

    Args:
        path: What `formats rank`, measure or recipes wrote.
        top: How many formats of a ranking are shown.
        within: The gap of formats that count as good as float32.

    Raises:
        ValueError: The file is damaged, or has another kind of result.
    """
    table, settings = results.read(path), results.sidecar(path).get("settings", {})
    network = results.network_of(settings, path)
    yardsticks = settings.get("yardsticks", ())
    if RECIPE in table and RANK in table:
        named = table.fillna({LAYER: ""})  # where nothing is kept, a file has no text
        return next(part for part in recipes.measured(named) if isinstance(part, Table))
    if FORMAT in table and EFFECT in table:
        return _measured(results.effects_across(table), network, yardsticks)
    if NAME in table and RANK in table and effects_in(table.columns):
        return rankings.first_formats(table, top, network, int(settings.get("minibatches") or 0), within, yardsticks)
    raise ValueError(f"{path}: no table is made of it; give what formats rank, measure or recipes wrote")


def _measured(table: pd.DataFrame, network: str, yardsticks: Any) -> Table:
    effects = effects_in(table.columns)

    def angle(row: Any, effect: str) -> str:
        value, low, high = (float(row[column(effect)]) for column in (angle_column, low_column, high_column))
        return bounded(value, low, high, digits=2)

    def cells(row: Any) -> list[str]:
        return [str(row[NAME]), *(angle(row, effect) for effect in effects)]

    rows = [cells(row) for _, row in table.iterrows()]
    headers = [("format", "left"), *((f"angle {effect}", "right") for effect in effects)]
    ruled = [len(rows) - 1] if yardsticks else []
    return plain(network, headers, [*rows, *map(cells, yardsticks)], ruled)


def _frame(table: Table) -> pd.DataFrame:
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return pd.DataFrame(list(zip(*columns, strict=True)), columns=[str(column.header) for column in table.columns])


def latex(table: Table) -> str:
    """A tabular for the package booktabs."""
    sides = "".join("r" if column.justify == "right" else "l" for column in table.columns)
    return str(_frame(table).map(_escaped).rename(columns=_escaped).to_latex(index=False, column_format=sides))


_LATEX = {"\\": r"\textbackslash{}", "~": r"$\sim$", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$"} | {
    letter: f"\\{letter}" for letter in "&%$#_{}"
}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def markdown(table: Table) -> str:
    """A table of pipes, as GitHub and most others read it."""
    frame = _frame(table)
    lines = [
        list(frame.columns),
        ["---:" if column.justify == "right" else "---" for column in table.columns],
        *frame.to_numpy().tolist(),
    ]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


WRITERS: dict[str, Callable[[Table], str]] = {".tex": latex, ".md": markdown}
