"""Result files: a table as CSV, JSON or Parquet, and beside it a sidecar that says how it was made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numeric_formats.damage import reading
from numeric_formats.files import read_json, write_atomically, write_json
from numeric_formats.version import NAME as DISTRIBUTION
from numeric_formats.version import versions_of
from predictor.columns import (
    ALL,
    ANGLE,
    EFFECT,
    FORMAT,
    HIGH,
    LOW,
    NAME,
    PROFILE,
    SCOPE,
    N,
    angle_column,
    effects_in,
    high_column,
    low_column,
    n_column,
)
from predictor.effects import Points, usual_effect

ENDINGS = (".csv", ".json", ".parquet")
SIDECAR = ".meta.json"
BEFORE = "before"
"""Of a sidecar, while its table is being replaced: what it said of the earlier one."""
FINITE = ("angle", "low", "high", "rank", "bits", "binades", "gates")
NUMBERS = (*FINITE, "difference", "score", "loss", "metric")
"""How columns of numbers begin, and of those that have no infinite one."""
TEXTS = (NAME, PROFILE)
"""Columns of text that may look like numbers."""
PACKAGES = (DISTRIBUTION, "torch", "numpy", "numba", "pandas")


def check_output(path: Path, endings: tuple[str, ...], force: bool, command: str | None = None) -> None:
    """Refuse, before the work begins, a place that could not be written when it ends.

    Args:
        path: Where a result goes.
        endings: What its name may end in, with the dot.
        force: Whether a file that is there may be replaced.
        command: What may replace it without, where it wrote it itself.

    Raises:
        ValueError: Another ending.
        FileExistsError: The file exists, and `force` was not given.
        OSError: The place cannot be written.
    """
    if path.suffix.lower() not in endings:
        raise ValueError(f"output {path}: the name must end in {', '.join(endings)}")
    if path.is_dir():
        raise IsADirectoryError(f"output {path} is a folder")
    if path.exists() and not (force or (command is not None and made_by(path, command))):
        raise FileExistsError(f"output {path} exists; use --force to replace it")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise PermissionError(f"output {path}: {folder} cannot be written")


def made_by(path: Path, command: str) -> bool:
    """Whether a result file is what a command wrote, unchanged since, so that the same command may replace it."""
    try:
        told = sidecar(path)
        same = told.get("settings", {}).get("command") == command and told.get("sha256") == _digest(path)
    except (ValueError, OSError):
        return False
    return bool(same)


def _bytes(table: pd.DataFrame, ending: str) -> bytes:
    buffer = BytesIO()
    if ending == ".parquet":
        table.to_parquet(buffer, index=False)
    elif ending == ".json":
        buffer.write((table.to_json(orient="records", indent=1, double_precision=15) + "\n").encode())
    else:
        buffer.write(table.to_csv(index=False).encode())
    return buffer.getvalue()


def write(table: pd.DataFrame, path: Path, settings: dict[str, Any]) -> None:
    """Write a table, and beside it how it was made.

    Args:
        table: A result.
        path: Its ending says the form: .csv, .json or .parquet. Beside it comes `path`.meta.json with the settings,
            versions, the time and the digest of the file.
        settings: All that reproduces the result, as JSON has it.

    Raises:
        OSError: The place cannot be written; what was there before is whole.
    """
    content = _bytes(table, path.suffix.lower())
    before = _before(path)
    beside = {
        "file": path.name,
        "rows": len(table),
        "sha256": hashlib.sha256(content).hexdigest(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions_of(*PACKAGES),
        "settings": settings,
    }
    # Whenever this is ended, the sidecar tells of the table that is there.
    write_json(sidecar_of(path), beside | ({} if before is None else {BEFORE: before}))
    try:
        write_atomically(path, content)
    except BaseException:
        if not path.exists():
            sidecar_of(path).unlink(missing_ok=True)
        raise
    if before is not None:
        write_json(sidecar_of(path), beside)


def _before(path: Path) -> dict[str, Any] | None:
    """What is to be said of the table that is going to be replaced; None where there is none."""
    if not path.is_file():
        return None
    try:
        return sidecar(path) or {"sha256": _digest(path)}
    except ValueError:  # the pair is damaged already
        return None


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a result file is."""
    return path.with_name(path.name + SIDECAR)


def sidecar(path: Path) -> dict[str, Any]:
    """What the sidecar of a result file says.

    Args:
        path: The result file.

    Returns:
        Its content; nothing where there is no sidecar. Of a table that was about to be replaced when a process was
        killed, what it said of that one.

    Raises:
        ValueError: It is damaged.
    """
    beside = sidecar_of(path)
    if not beside.is_file():
        return {}
    remedy = f"remove it to read {path.name} without its check"
    found = read_json(beside, remedy)
    if not isinstance(found, dict) or "sha256" not in found or not isinstance(found.get("settings", {}), dict):
        raise ValueError(f"{beside} is damaged; {remedy}")
    earlier = found.pop(BEFORE, None)
    if isinstance(earlier, dict) and path.is_file() and _digest(path) == earlier.get("sha256"):
        found = earlier
    if not isinstance(found.get("settings", {}), dict):
        raise ValueError(f"{beside} is damaged; {remedy}")
    return found


def points_of(settings: Mapping[str, Any]) -> Points:
    """Where the formats of a result were rounded, from the settings of its sidecar; in data flow where none says."""
    return Points(settings.get("points", Points.DATAFLOW))


def network_of(settings: Mapping[str, Any], path: Path) -> str:
    """What a result's pictures and tables call its network, with where formats were rounded if that is at operands."""
    network = str(settings.get("workload") or path.stem)
    return f"{network}, at operands" if points_of(settings) is Points.OPERANDS else network


def ordering_effect(path: Path, table: pd.DataFrame) -> str:
    """The effect whose angles order a ranking: the one that its sidecar names, else the usual one of those it has.

    Raises:
        ValueError: It has no angle, or its sidecar is damaged.
    """
    effects = effects_in(table.columns)
    if not effects:
        raise ValueError(f"{path} has no angles; a ranking that `formats rank --output` wrote is needed")
    settings = sidecar(path).get("settings", {})
    named = settings.get("by")
    return named if named in effects else usual_effect(effects, points_of(settings))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table back.

    Args:
        path: A result file.
        columns: Those that it must have.

    Returns:
        The table.

    Raises:
        ValueError: The file is cut short, was changed since it was written, is no result with these columns, or has
            something else in a column of numbers.
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no result file {path}")
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path}: result files end in {', '.join(ENDINGS)}")
    content = path.read_bytes()
    recorded = sidecar(path).get("sha256")
    if recorded is not None:
        if hashlib.sha256(content).hexdigest() != recorded:
            raise ValueError(
                f"{path} is cut short or was changed after it was written ({sidecar_of(path).name} has another digest; "
                "remove that to read it without this check)"
            )
    elif path.suffix.lower() == ".csv" and not content.endswith(b"\n"):
        raise ValueError(f"{path} is cut short: its last line has no end")
    texts = dict.fromkeys(TEXTS, str)
    readers: dict[str, Callable[[bytes], pd.DataFrame]] = {
        # A format may be called "NA": nothing but an empty cell is none.
        ".csv": lambda data: pd.read_csv(StringIO(data.decode()), dtype=texts, keep_default_na=False, na_values=[""]),
        ".json": lambda data: pd.read_json(
            StringIO(data.decode()), orient="records", dtype=texts, convert_dates=False, precise_float=True
        ),
        ".parquet": lambda data: pd.read_parquet(BytesIO(data)),
    }
    with reading(path, f"{path.suffix[1:].upper()}; is it cut short?"):
        table = readers[path.suffix.lower()](content)
    check_columns(path, table, columns)
    with reading(path, "a result"):
        return _checked(table)


def check_columns(path: Path, table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """ValueError where a table that was read lacks a column."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; it holds {', '.join(map(str, table.columns[:6]))}, ...")


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """The table; ValueError for a cell of another kind than its column."""
    if table.columns.duplicated().any():
        raise ValueError(f"column {table.columns[table.columns.duplicated()][0]!r} comes twice")
    for column in map(str, table.columns):
        table[column].tolist()  # text of Parquet is decoded when it is asked for
        if column.startswith(NUMBERS):
            numbers = pd.to_numeric(table[column], errors="coerce")
            wrong, kind = numbers.isna() & table[column].notna(), "numbers"
            if column.startswith(FINITE):
                wrong, kind = wrong | numbers.isin([np.inf, -np.inf]), "finite numbers"
        elif column == NAME:
            wrong, kind = ~table[column].map(_is_name), "names that can be printed"
        else:
            continue
        if wrong.any():
            value = table[column][wrong].iloc[0]
            shown = repr(value) if isinstance(value, str) else str(value)
            raise ValueError(f"{shown} stands in column {column}; {kind} are needed")
    return table


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def effects_across(measured: pd.DataFrame) -> pd.DataFrame:
    """The rows of `predictor.measure` over all layers with a ranking's columns: one a format, its name, and the angle
    of each effect with its interval and mini-batches."""
    rows: dict[str, dict[str, Any]] = {}
    for _, row in measured[measured[SCOPE] == ALL].iterrows():
        columns = (column(row[EFFECT]) for column in (angle_column, low_column, high_column, n_column))
        values = zip(columns, (row[ANGLE], row[LOW], row[HIGH], row[N]), strict=True)
        rows.setdefault(row[FORMAT], {NAME: row[FORMAT]}).update(values)
    return pd.DataFrame(rows.values())
