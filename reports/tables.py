"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from training.calibration import Quantized


def _with_half(row: Any, column: str) -> str:
    angle, low, high = row[f"angle_{column}"], row[f"low_{column}"], row[f"high_{column}"]
    if pd.isna(angle):
        return "-"
    return f"{angle:.3f}" if pd.isna(low) else f"{angle:.3f} ± {(high - low) / 2:.3f}"


def angle(row: Any, effect: str) -> str:
    """The angle of an effect in a ranking's row, with its 95% half-width; ~ is predicted."""
    angle = row[f"angle_{effect}"]
    if not pd.isna(angle) and row[f"source_{effect}"] == "predicted":
        return f"~{angle:.3g}"
    return _with_half(row, effect)


def plain(title: str | None, headers: Iterable[tuple[str, str]], rows: Iterable[Iterable[str]]) -> Table:
    """A table of text; headers are (name, "left" or "right")."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for name, side in headers:
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def ranking(table: pd.DataFrame, top: int, title: str | None = None) -> Table:
    """The first `top` rows of a ranking: rank, name, bits, profile, and angles in degrees with their 95% half-widths; ~
    is predicted."""
    effects = [column.removeprefix("angle_") for column in table.columns if column.startswith("angle_")]
    headers = [
        ("rank", "right"),
        ("format", "left"),
        ("bits", "right"),
        *((f"angle {e} (deg)", "right") for e in effects),
        *([("gates", "right")] if "gates" in table.columns else []),
        ("profile", "left"),
    ]
    rows = [
        [
            str(row["rank"]),
            str(row["name"]),
            "-" if pd.isna(row["bits"]) else str(row["bits"]),
            *(angle(row, effect) for effect in effects),
            *(["-" if pd.isna(row["gates"]) else f"{row['gates']:.0f}"] if "gates" in table.columns else []),
            str(row["profile"]),
        ]
        for _, row in table.head(top).iterrows()
    ]
    return plain(title, headers, rows)


def across(table: pd.DataFrame, top: int, title: str | None = None) -> Table:
    """The first `top` rows of a ranking over several networks: rank, name, bits, mean rank, worst angle and where, and
    each network's rank."""
    models = [column.removeprefix("rank@") for column in table.columns if column.startswith("rank@")]
    headers = [
        ("rank", "right"),
        ("format", "left"),
        ("bits", "right"),
        ("mean rank", "right"),
        ("worst angle (deg)", "right"),
        ("on", "left"),
    ]
    rows = [
        [
            *(
                str(row["rank"]),
                str(row["name"]),
                "-" if pd.isna(row["bits"]) else str(row["bits"]),
                f"{row['mean_rank']:.4g}",
            ),
            *(angle(row, "worst"), str(row["worst_on"]), *(str(row[f"rank@{model}"]) for model in models)),
        ]
        for _, row in table.head(top).iterrows()
    ]
    return plain(title, [*headers, *((f"rank, {model}", "right") for model in models)], rows)


def attribution(table: pd.DataFrame, top: int, title: str | None = None) -> tuple[Table, Table]:
    """Two tables of predictor.attribution: everything and the kinds; the `top` layers with the largest shares."""

    def rows(part: pd.DataFrame) -> list[list[str]]:
        return [
            [
                row["kind"],
                row["layer"],
                *(_with_half(row, column) for column in ("alone", "without")),
                "-" if pd.isna(row["share"]) else f"{100 * row['share']:.1f}%",
                str(row["n"]),
            ]
            for _, row in part.iterrows()
        ]

    headers = [
        ("kind", "left"),
        ("layer", "left"),
        ("alone (deg)", "right"),
        ("without (deg)", "right"),
        ("share", "right"),
        ("mini-batches", "right"),
    ]
    layers = table[table["layer"] != "all"].sort_values("share", ascending=False, kind="stable").head(top)
    return plain(title, headers, rows(table[table["layer"] == "all"])), plain(
        "layers with the largest shares", headers, rows(layers)
    )


def search(table: pd.DataFrame, reference: str, title: str | None = None) -> Table:
    """Synthesized and known formats: rank, format, for each effect the angle and its paired difference from the
    reference's in degrees, role;
    gates, with * on the front of angle and gates, where there are any."""
    effects = [column.removeprefix("angle_") for column in table.columns if column.startswith("angle_")]
    headers = [("rank", "right"), ("format", "left")]
    for effect in effects:
        headers += [(effect, "right"), (f"less {reference}", "right")]
    rows = []
    for _, row in table.iterrows():
        cells = [str(row["rank"]), str(row["name"])]
        for effect in effects:
            angle, difference, high = (
                row[f"{column}_{effect}"] for column in ("angle", "difference", "difference_high")
            )
            half = "" if pd.isna(high) else f" ± {high - difference:.3f}"
            cells += (
                ["-", "-"]
                if pd.isna(angle)
                else [f"{angle:.3f}", f"{difference:+.3f}{half}" if row["name"] != reference else ""]
            )
        if "gates" in table.columns:
            cells.append("-" if pd.isna(row["gates"]) else f"{row['gates']:.0f}{'*' if row['front'] else ' '}")
        rows.append([*cells, str(row["role"])])
    gates = [("gates", "right")] if "gates" in table.columns else []
    return plain(title, [*headers, *gates, ("role", "left")], rows)


def layers(table: pd.DataFrame, title: str | None = None) -> Table:
    """A format for each layer: layer, format, elements, score."""
    headers = [("layer", "left"), ("format", "left"), ("bits", "right"), ("elements", "right"), ("score", "right")]
    columns = zip(table["layer"], table["name"], table["bits"], table["elements"], table["score"], strict=True)
    return plain(
        title,
        headers,
        [[layer or "(network)", name, str(bits), str(n), f"{score:.3g}"] for layer, name, bits, n, score in columns],
    )


def fit(table: pd.DataFrame, title: str | None = None) -> Table:
    """Formats ranked on tensors: rank, role, format, bits, mean and worst noise-to-signal ratio, and the tensor of the
    worst."""
    headers = [
        ("rank", "right"),
        ("format", "left"),
        ("bits", "right"),
        ("mean NSR", "right"),
        ("worst NSR", "right"),
        ("worst", "left"),
        ("", "left"),
    ]
    rows = [
        [
            str(row["rank"]),
            str(row["name"]),
            "-" if pd.isna(row["bits"]) else str(row["bits"]),
            f"{row['nsr_mean']:.4g}",
            f"{row['nsr_worst']:.4g}",
            str(row["worst"]),
            "synthesized" if row["role"] == "synthesized" else "",
        ]
        for _, row in table.iterrows()
    ]
    return plain(title, headers, rows)


def measurement(table: pd.DataFrame) -> Table:
    """Rows of predictor.angles: format, effect, scope, angle with its 95% half-width, mini-batches, failures."""
    rows = []
    for _, row in table.iterrows():
        half = "" if pd.isna(row["low"]) else f" ± {(row['high'] - row['low']) / 2:.4f}"
        failures = str(row["failures"]) if row["failures"] else ""
        rows.append([row["format"], row["effect"], row["scope"], f"{row['angle']:.4f}{half}", str(row["n"]), failures])
    headers = [
        ("format", "left"),
        ("effect", "left"),
        ("scope", "left"),
        ("angle (deg)", "right"),
        ("mini-batches", "right"),
        ("failed", "right"),
    ]
    return plain(None, headers, rows)


def quantization(result: Quantized, title: str | None = None) -> list[Table]:
    """What each step of a quantization has left of loss and metric; where layers were measured, what each costs, the
    costliest first."""
    rows = [
        [step.name, f"{step.loss:.4f}", "-" if step.metric is None else f"{step.metric:.4f}"] for step in result.steps
    ]
    made = [plain(title, [("step", "left"), ("loss", "right"), ("metric", "right")], rows)]
    if result.layers:
        headers = [
            ("layer", "left"),
            *((name, "right") for name in ("loss by weight", "by input", "output error", "to nearest")),
        ]
        found = [
            [
                layer.layer,
                f"{layer.weight:+.5f}",
                f"{layer.activation:+.5f}",
                *("-" if value is None else f"{value:.4g}" for value in (layer.rounded, layer.nearest)),
            ]
            for layer in result.layers
        ]
        made.append(plain("layers, each quantized alone, the costliest first", headers, found))
    return made


def fact(value: object) -> str:
    """A fact about a format, as a cell."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {entry}" for key, entry in value.items()) or "none"
    return "-" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
