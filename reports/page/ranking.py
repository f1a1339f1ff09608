"""A ranking in the report: a table and plots that filter each other."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

import formats
from formats.description import describe
from formats.number_format import NumberFormat
from formats.pairs import Pair, candidate
from numeric_formats.messages import counted
from predictor.columns import (
    ANGLE,
    BINADES,
    BITS,
    BYTES,
    ENERGY,
    FAMILY,
    GAP,
    GATES,
    GRANULARITY,
    HIGH,
    LOW,
    NAME,
    PROFILE,
    RANK,
    SOURCE,
    WORST,
    N,
    effects_in,
    on_network,
)
from predictor.effects import Effect, Points, usual_effect
from predictor.risk import WITHIN, division
from reports import results
from reports.page.parts import SOURCE as FOLDER
from reports.page.parts import Section, embedded, plain
from reports.tables import cells, costs
from reports.tables.rankings import as_good
from reports.verdicts import verdict

COLUMNS = (RANK, NAME, BITS, FAMILY, PROFILE)
WIDE = (GRANULARITY, BITS, FAMILY, BINADES, GATES, ENERGY, BYTES, PROFILE)
"""Columns that a narrow screen leaves out."""
COSTS = (GATES, ENERGY, BYTES)
MEANINGS = {
    "E": "errors, the gradients of the loss with respect to activations, are rounded",
    "A": "activations are rounded",
    "AE": "activations, and errors, the gradients of the loss with respect to them, are rounded",
    "W": "weights are rounded",
    "WAE": "weights, activations and errors are rounded",
    "angle": "by how many degrees that turns the weight gradient; less is better",
    "gap": "by how much the final loss will be above that of float32, with its 95% interval, told by trainings",
    GATES: "in NAND2 equivalents, and fJ: of a multiply-accumulate with its share of scales, conversion and weight; "
    "bytes: of memory a value",
}
AT_OPERANDS = {
    "E": "dy, the errors of the products of layers, is rounded in dgrad and wgrad",
    "A": "x, the inputs of these products, is rounded in fprop and wgrad",
    "AE": "x, the inputs of these products, and dy, their errors, are rounded wherever they go in",
    "W": "W is rounded in fprop and dgrad",
    "WAE": "all six operands of the products fprop, dgrad and wgrad are rounded, and nothing between products",
}
"""What a page's words mean, and effects where formats were rounded at operands."""


def command(settings: dict[str, Any], columns: list[str], output: str) -> str:
    """The `formats rank` command with a ranking's settings: the one that was given, or one that gives the same."""
    if "command" in settings:
        return str(settings["command"])
    words = ["formats", "rank", "--model", str(settings["workload"])]
    given, catalogue = settings["formats"], formats.catalogue()
    if list(given) != [entry.name for entry in catalogue]:
        words += ["--formats", ",".join(given)]
    words += [
        "--effects",
        ",".join(settings["effects"]),
        "--by",
        settings["by"],
        "--minibatches",
        str(settings["minibatches"]),
    ]
    if settings["batch_size"] is not None:
        words += ["--batch-size", str(settings["batch_size"])]
    words += ["--exhaustive"] * settings["exhaustive"]
    for layer in settings["exact"]:
        words += ["--exact", layer]
    if results.points_of(settings) is Points.OPERANDS:
        words += ["--points", Points.OPERANDS]
    else:
        words += ["--scheme", settings.get("scheme", "current")]  # as before schemes were recorded
        words += ["--one-term"] * (not settings["two_terms"])
    words += ["--cost"] * (GATES in columns)
    return shlex.join([*words, "--device", settings["device"], "--output", output])


def _part(format: formats.Format) -> dict[str, Any]:
    """A format's profile and its magnitudes; none where it does not say."""
    if not isinstance(format, NumberFormat):
        return {"name": format.name, "profile": None, "values": None}
    values = describe(format)["values"]
    profile = getattr(format, "profile", None)
    return {
        "name": format.name,
        "profile": profile,
        "values": values and sorted({abs(value) for _, value in values if value}),
    }


def _parts(name: str, digest: str | None) -> list[dict[str, Any]]:
    """The parts of a format or a pair; none where the name is of another format here than it was in the ranking, or of
    none."""
    try:
        found = candidate(name, files=False)
    except (ValueError, TypeError, OSError):
        return []
    if digest not in (None, found.digest):
        return []
    return [_part(format) for format in ((found.activation, found.error) if isinstance(found, Pair) else (found,))]


def _effects(table: pd.DataFrame) -> list[str]:
    """What a table has angles of: effects, over several networks the worst, and effects on each; no other name."""
    return [name for name in effects_in(table.columns) if name.partition(on_network("", ""))[0] in (*Effect, WORST)]


def _row(row: pd.Series[Any], effects: list[str], digest: str | None) -> dict[str, Any]:
    named = {key: plain(row.get(key)) for key in (*COLUMNS, GRANULARITY, BINADES, GATES)}
    named[GATES] = None if named[GATES] is None else round(named[GATES])
    cost = dict(zip(COSTS, costs.cells(row), strict=True)) if GATES in row else {}
    kinds = (ANGLE, LOW, HIGH, SOURCE, N)
    angles = {kind: {effect: plain(row.get(f"{kind}_{effect}")) for effect in effects} for kind in kinds}
    parts = {"parts": _parts(str(row[NAME]), digest)}
    return named | {PROFILE: named[PROFILE] or "", "cost": cost} | angles | parts | _gap(row)


def _gap(row: pd.Series[Any]) -> dict[str, Any]:
    """A row's gap, as it is sorted by and as it is read."""
    return {GAP: plain(row[GAP]), "gap_text": cells.gap(row)} if GAP in row else {}


def _explained(effects: list[str], others: Iterable[str]) -> list[str]:
    """The words of a page that need one."""
    of = {effect.partition(on_network("", ""))[0] for effect in effects}
    return [word for word in MEANINGS if word in of or word == "angle" or word in others]


def section(table: pd.DataFrame, sidecar: dict[str, Any], file: str, within: float = WITHIN) -> Section:
    """A ranking's part of a page.

    Args:
        table: The columns of a ranking.
        sidecar: What `results.sidecar` gave of it, or nothing: then the page names no settings.
        file: The name of the ranking's file, as commands have it.
        within: The gap of formats that count as good as float32.
    """
    effects = _effects(table)
    settings = dict(sidecar.get("settings", {}))
    digests: dict[str, str] = settings.get("formats", {})
    by = settings.get("by") or usual_effect(effects, results.points_of(settings))
    gaps = {GAP: "gap"} if GAP in table.columns else {}
    divided = division(table, within, by)
    shared = {"by": by, "line": None if divided is None else divided.middle, "minibatches": _minibatches(settings)}
    ends = "" if divided is None else f" Dashed: where formats as good as float32 within {100 * within:.3g}% end."
    data = shared | {"rows": [_row(row, effects, digests.get(str(row[NAME]))) for _, row in table.iterrows()]}
    workload = results.network_of(settings, Path(file))
    meanings = MEANINGS | AT_OPERANDS if results.points_of(settings) is Points.OPERANDS else MEANINGS
    of = (
        f" over {counted(settings['minibatches'], 'mini-batch')}, {settings['measured']} measured"
        if "measured" in settings
        else ""
    )
    told = "command" in settings or "workload" in settings
    headers, rows, beside = _cells(table, effects, settings, by, gaps)
    return Section(
        title=f"{workload}: {counted(len(table), 'number format')}",
        verdict=verdict(table, settings, within),
        summary=f"by the angle of {by} between quantized and full-precision weight gradients{of}; smaller is better"
        + (f"; {as_good(table, by, within)}" if gaps else ""),
        meanings={word: meanings[word] for word in _explained(effects, table.columns)},
        body=Template((FOLDER / "ranking.html").read_text("utf-8")).substitute(
            by=escape(by), headers=headers, rows=rows, beside=beside, ends=ends, data=embedded(data)
        ),
        script=(FOLDER / "ranking.js").read_text("utf-8"),
        command=command(settings, list(table.columns), file) if told else None,
        sidecar=sidecar,
        digests=digests,
    )


def _minibatches(settings: dict[str, Any]) -> int:
    """Over how many a ranking is; 0 where that is not known."""
    return settings["minibatches"] if isinstance(settings.get("minibatches"), int) else 0


def _cells(
    table: pd.DataFrame, effects: list[str], settings: dict[str, Any], by: str, gaps: dict[str, str]
) -> tuple[str, str, str]:
    """The table's head, its rows, and those of what it is held against."""
    minibatches = _minibatches(settings)
    # What decides comes first, where a narrow screen shows it.
    angles = {f"angle.{effect}": f"angle {effect}" for effect in sorted(effects, key=lambda effect: effect != by)}
    names = {BITS: BITS, FAMILY: FAMILY, BINADES: BINADES, GATES: GATES, ENERGY: "fJ", BYTES: "bytes", PROFILE: PROFILE}
    rest = {key: name for key, name in names.items() if key in table.columns}
    columns = {RANK: "rank", NAME: "format", **angles, **gaps, **rest}
    numeric = {key for key in columns if key not in (NAME, FAMILY, PROFILE)}

    def classes(key: str) -> str:
        # What orders the ranking, and its gap, are for every screen.
        narrow = key not in WIDE and (not key.startswith("angle.") or key == f"angle.{by}")
        names = ["number"] * (key in numeric) + ["wide"] * (not narrow)
        return f' class="{" ".join(names)}"' if names else ""

    def cell(row: pd.Series[Any], key: str) -> str:
        if key.startswith("angle."):
            return cells.angle(row, key.removeprefix("angle."), minibatches)
        if key == GAP:
            return cells.gap(row)
        if key in COSTS:
            return costs.cells(row)[COSTS.index(key)]
        value = plain(row.get(key))
        return "" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value)

    sorted_by = ' aria-sort="ascending"'
    headers = "".join(
        f'<th scope="col" data-column="{escape(key)}"{classes(key)}{sorted_by if key == RANK else ""}>'
        f'<button type="button">{escape(text)}</button></th>'
        for key, text in columns.items()
    )

    def cells_of(row: pd.Series[Any]) -> str:
        return "".join(f"<td{classes(key)}>{escape(cell(row, key))}</td>" for key in columns)

    rows = "\n".join(
        f'<tr data-row="{number}" tabindex="-1">{cells_of(row)}</tr>'
        for number, (_, row) in enumerate(table.iterrows())
    )
    known = {f"{kind}_{effect}" for kind in (ANGLE, LOW, HIGH) for effect in effects}
    held = [pd.Series(row) for row in settings.get("yardsticks", ()) if known <= row.keys()]
    below = "\n".join(f"<tr>{cells_of(row)}</tr>" for row in held)
    return headers, rows, f"<tfoot>\n{below}\n</tfoot>" if held else ""


def checked(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The table; ValueError where it is no ranking."""
    if not _effects(table) or not len(table):
        raise ValueError(f"{path} has no angles; a ranking that `formats rank --output` wrote is needed")
    beside = [f"{kind}_{effect}" for effect in _effects(table) for kind in (LOW, HIGH, SOURCE)]
    if absent := [column for column in beside if column not in table.columns]:
        raise ValueError(f"{path} has no column {absent[0]!r}, which goes with its angle")
    return table
