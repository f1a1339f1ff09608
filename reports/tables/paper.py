"""A result's table for a paper or a page: LaTeX, Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from formats.pairs import candidate
from numeric_formats.messages import counted
from predictor.columns import (
    BYTES,
    EFFECT,
    ENERGY,
    FORMAT,
    GAP,
    GATES,
    NAME,
    RANK,
    RECIPE,
    angle_column,
    difference_columns,
    effects_in,
    high_column,
    low_column,
    n_column,
)
from predictor.risk import bundled_risk
from predictor.scheme import Scheme
from reports import results
from reports.tables import costs, rankings, recipes
from reports.tables.angles import READING
from reports.tables.cells import bounded, gap_at, or_dash, rounded_where, with_interval
from reports.tables.layout import Part, plain


def table_of(
    path: Path, top: int, within: float, columns: Sequence[str] = (), formats: Sequence[str] = ()
) -> list[Part]:
    """The table that a command has printed of a result, and the lines below it without which it is not read.

    Args:
        path: What `formats rank`, measure or recipes wrote.
        top: How many formats of a ranking are shown; those of the user's own are shown wherever they stand.
        within: The gap of formats that count as good as float32.
        columns: Those that are shown, in this order, by their names in the file or above the table; by default all.
        formats: Those, or the recipes, whose rows are shown, by name; by default `top`, and what they are held against.

    Raises:
        ValueError: The file is damaged, has another kind of result, or has no such column or format.
    """
    table, settings = results.read(path), results.sidecar(path).get("settings", {})
    network = results.network_of(settings, path)
    yardsticks: Sequence[Any] = settings.get("yardsticks", ())
    if RECIPE in table and RANK in table:
        found = recipes.as_measured(table, settings)
        if missing := [name for name in formats if name not in set(found[RECIPE])]:
            raise ValueError(f"{path} has no {', '.join(missing)}; it has {', '.join(found[RECIPE].unique())}")
        shown = found[found[RECIPE].isin(formats)] if formats else found
        return _with_columns(recipes.measured(shown), columns)
    if FORMAT in table and EFFECT in table:
        table, yardsticks = _rows_of(path, results.effects_across(table), yardsticks, formats)
        return _with_columns(_measured(table, network, yardsticks, settings), columns)
    if NAME in table and RANK in table and effects_in(table.columns):
        minibatches = int(settings.get("minibatches") or 0)
        rows, yardsticks = _rows_of(path, table, yardsticks, formats)
        own = [] if formats else [name for name in rows[NAME].iloc[top:] if _is_own(name)]
        shown = rows if formats else pd.concat([rows.head(top), rows.iloc[top:][rows[NAME].iloc[top:].isin(own)]])
        headers = {_header(column) for column in columns}
        told = (
            shown
            if not headers or headers & {name for name, _ in costs.HEADERS}
            else shown.drop(columns=GATES, errors="ignore")
        )
        by = results.ordering_effect(path, table)
        first = rankings.first_formats(shown, len(shown), network, minibatches, within, yardsticks)
        return [
            *_with_columns([first], columns, _of_file(columns, shown, first)),
            f"{_measured_on(network, minibatches, settings)}; ordered by the angle of {by}",
            *rankings.footnotes(told, minibatches, yardsticks, settings.get("products")),
            *([f"below the first {top}, formats of one's own: {', '.join(own)}"] if own else []),
            *([rankings.as_good(table, by, within)] if GAP in table and (not headers or GAP in headers) else []),
        ]
    raise ValueError(f"{path}: no table is made of it; give what formats rank, measure or recipes wrote")


def _rows_of(
    path: Path, table: pd.DataFrame, yardsticks: Sequence[Any], formats: Sequence[str]
) -> tuple[pd.DataFrame, Sequence[Any]]:
    """The rows of these formats, and those of them that stand below; all where none is named."""
    if not formats:
        return table, yardsticks
    known = [*table[NAME], *(row[NAME] for row in yardsticks)]
    wanted = {name if name in known else candidate(name, files=False).name for name in formats}
    if missing := sorted(wanted - set(known)):
        raise ValueError(f"{path} has no {', '.join(missing)}; --formats names rows of it, such as {known[0]}")
    return table[table[NAME].isin(wanted)], [row for row in yardsticks if row[NAME] in wanted]


def _is_own(name: str) -> bool:
    """Whether a format is a user's own: its name is no known one, or writes out a profile."""
    try:
        return "profile:" in candidate(name, files=False).name
    except ValueError:
        return True


_HEADERS = {NAME: "format", ENERGY: "fJ", BYTES: "bytes"}
"""What stands above columns that a file calls otherwise."""


def _header(column: str) -> str:
    return _HEADERS.get(column, column.replace("_", " ")).lower()


def _of_file(columns: Sequence[str], rows: pd.DataFrame, table: Table) -> dict[str, tuple[str, list[str]]]:
    """Columns that are named, of a ranking's file but not of its table, as title and cells by header; - for what
    the ranking is held against. Differences to the first format have the ends of their intervals, other numbers
    three digits."""
    of_effects = map(difference_columns, effects_in(rows.columns))
    ends = {middle: (low, high) for middle, low, high in of_effects}
    printed = {_header(str(column.header)) for column in table.columns}
    found = {}
    for asked in columns:
        column = next((name for name in rows.columns if name == asked or _header(name) == _header(asked)), None)
        if column is None or _header(column) in printed:
            continue
        cells = [_cell(row, column, ends.get(column)) for _, row in rows.iterrows()]
        found[_header(column)] = column.replace("_", " "), cells + ["-"] * (table.row_count - len(cells))
    return found


def _cell(row: Any, column: str, ends: tuple[str, str] | None) -> str:
    if ends is not None:
        return with_interval(row, column, *ends)
    value = row[column]
    return or_dash(value, "" if isinstance(value, str) else ".3g")


def _with_columns(
    parts: Sequence[Part], columns: Sequence[str], more: Mapping[str, tuple[str, list[str]]] | None = None
) -> list[Part]:
    """Tables with these columns alone, in this order; all where none is named. more: cells of columns that a ranking's
    table does not show."""
    if not columns:
        return list(parts)
    more = more or {}
    found = {
        _header(str(column.header)): str(column.header)
        for part in parts
        if isinstance(part, Table)
        for column in part.columns
    } | {header: name for header, (name, _) in more.items()}
    for column in columns:
        if _header(column) not in found:
            raise ValueError(f"--columns {column}: there is no such column; there are {', '.join(found.values())}")
    asked = [*map(_header, columns)]
    return [_of_columns(part, asked, more) if isinstance(part, Table) else part for part in parts]


def _of_columns(table: Table, headers: Sequence[str], more: Mapping[str, tuple[str, list[str]]]) -> Table:
    mine = {
        _header(str(column.header)): (str(column.header), str(column.justify), [str(cell) for cell in column.cells])
        for column in table.columns
    } | {header: (name, "right", cells) for header, (name, cells) in more.items()}
    chosen = [mine[header] for header in headers if header in mine]
    rows = zip(*(cells for *_, cells in chosen), strict=True)
    ruled = [number for number, row in enumerate(table.rows) if row.end_section]
    title = None if table.title is None else str(table.title)
    return plain(title, [(header, side) for header, side, _ in chosen], rows, ruled)


def _measured(table: pd.DataFrame, network: str, yardsticks: Any, settings: dict[str, Any]) -> list[Part]:
    effects, scheme = effects_in(table.columns), Scheme.recorded(settings)
    # As for what is printed when it is measured: trainings tell a gap of data flow rounded by their scheme alone.
    risk = bundled_risk(effects, results.points_of(settings), scheme)

    def angle(row: Any, effect: str) -> str:
        value, low, high = (float(row[column(effect)]) for column in (angle_column, low_column, high_column))
        return bounded(value, low, high, digits=2)

    def cells(row: Any) -> list[str]:
        shown = [str(row[NAME]), *(angle(row, effect) for effect in effects)]
        if risk is not None:
            shown.append(gap_at(risk, float(row[angle_column(risk.indicator)])))
        return shown

    rows = [cells(row) for _, row in table.iterrows()]
    headers = [("format", "left"), *((f"angle {effect}", "right") for effect in effects)]
    headers += [("gap", "right")] if risk is not None else []
    ruled = [len(rows) - 1] if yardsticks else []
    shown = [*rows, *map(cells, yardsticks)]
    return [
        plain(network, headers, shown, ruled),
        _measured_on(network, max((int(table[n_column(effect)].max()) for effect in effects), default=0), settings),
        READING,
        *([rankings.NO_END] if any(row[-1].endswith("?]") for row in shown) else []),
    ]


def _measured_on(network: str, minibatches: int, settings: dict[str, Any]) -> str:
    """What angles are of, as far as that is known."""
    scheme = Scheme.recorded(settings)
    return ", ".join(
        [
            network,
            *([f"{counted(minibatches, 'mini-batch')}"] if minibatches else []),
            *([rounded_where(results.points_of(settings), scheme)] if scheme is not None else []),
        ]
    )


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


_LATEX = (
    {"\\": r"\textbackslash{}", "~": r"$\sim$", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$"}
    | {
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
    | {letter: f"\\{letter}" for letter in "&%$#_{}"}
)


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
