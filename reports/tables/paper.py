"""A result's table for a paper or a page: LaTeX, Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from predictor.columns import (
    EFFECT,
    FORMAT,
    GAP,
    GAP_HIGH,
    GAP_LOW,
    LAYER,
    NAME,
    RANK,
    RECIPE,
    angle_column,
    effects_in,
    high_column,
    low_column,
)
from predictor.effects import Effect, Points
from predictor.risk import applies_to, bundled_trainings, risk_of
from predictor.scheme import Scheme
from reports import results
from reports.tables import rankings, recipes
from reports.tables.angles import READING
from reports.tables.cells import bounded, gap
from reports.tables.layout import Part, plain


def table_of(path: Path, top: int, within: float) -> list[Part]:
    """The table that a command has printed of a result, and the lines below it without which it is not read.

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
        return recipes.measured(named)
    if FORMAT in table and EFFECT in table:
        return _measured(results.effects_across(table), network, yardsticks, settings)
    if NAME in table and RANK in table and effects_in(table.columns):
        minibatches = int(settings.get("minibatches") or 0)
        return [
            rankings.first_formats(table, top, network, minibatches, within, yardsticks),
            *rankings.footnotes(table.head(top), minibatches, yardsticks),
            *([rankings.as_good(table, within)] if GAP in table else []),
        ]
    raise ValueError(f"{path}: no table is made of it; give what formats rank, measure or recipes wrote")


def _measured(table: pd.DataFrame, network: str, yardsticks: Any, settings: dict[str, Any]) -> list[Part]:
    effects, scheme = effects_in(table.columns), Scheme.recorded(settings)
    # As for what is printed when it is measured: trainings tell a gap of data flow rounded by their scheme alone.
    told = Effect.E in effects and results.points_of(settings) is Points.DATAFLOW
    told = told and scheme is not None and applies_to(scheme)
    risk = risk_of(bundled_trainings()) if told else None

    def angle(row: Any, effect: str) -> str:
        value, low, high = (float(row[column(effect)]) for column in (angle_column, low_column, high_column))
        return bounded(value, low, high, digits=2)

    def cells(row: Any) -> list[str]:
        shown = [str(row[NAME]), *(angle(row, effect) for effect in effects)]
        if risk is not None:
            told_of = zip((GAP, GAP_LOW, GAP_HIGH), risk.gaps([float(row[angle_column(Effect.E)])]), strict=True)
            shown.append(gap({key: float(value[0]) for key, value in told_of}))
        return shown

    rows = [cells(row) for _, row in table.iterrows()]
    headers = [("format", "left"), *((f"angle {effect}", "right") for effect in effects)]
    headers += [("gap", "right")] if risk is not None else []
    ruled = [len(rows) - 1] if yardsticks else []
    return [plain(network, headers, [*rows, *map(cells, yardsticks)], ruled), READING]


def _frame(table: Table) -> pd.DataFrame:
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return pd.DataFrame(list(zip(*columns, strict=True)), columns=[str(column.header) for column in table.columns])


def latex(parts: Sequence[Part]) -> str:
    """A tabular for the package booktabs, and lines in small letters below it."""
    return "\n".join(
        _tabular(part) if isinstance(part, Table) else f"\\par{{\\footnotesize {_escaped(part)}\\par}}\n"
        for part in parts
    )


def _tabular(table: Table) -> str:
    sides = "".join("r" if column.justify == "right" else "l" for column in table.columns)
    return str(_frame(table).map(_escaped).rename(columns=_escaped).to_latex(index=False, column_format=sides))


_LATEX = {"\\": r"\textbackslash{}", "~": r"$\sim$", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$"} | {
    letter: f"\\{letter}" for letter in "&%$#_{}"
}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def markdown(parts: Sequence[Part]) -> str:
    """A table of pipes, as GitHub and most others read it, and paragraphs below it."""
    return "\n".join(_pipes(part) if isinstance(part, Table) else f"{part}\n" for part in parts)


def _pipes(table: Table) -> str:
    frame = _frame(table)
    lines = [
        list(frame.columns),
        ["---:" if column.justify == "right" else "---" for column in table.columns],
        *frame.to_numpy().tolist(),
    ]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


WRITERS: dict[str, Callable[[Sequence[Part]], str]] = {".tex": latex, ".md": markdown}
