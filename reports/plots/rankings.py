"""Plots of rankings: all formats, the first few, and what they cost."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from predictor.columns import (
    BITS,
    FAMILY,
    GATES,
    MEASURED,
    NAME,
    RANK,
    ROLE,
    angle_column,
    high_column,
    low_column,
    source_column,
)
from predictor.risk import INDICATOR, dividing_angle
from predictor.statistics import pareto
from reports.plots.style import COLOURS, OTHER, STYLE, label_points, log_axis

LABELLED = ("INT", "FP")


def _line(axis: Callable[..., object], table: pd.DataFrame, within: float) -> None:
    """Draw where formats as good as float32 end, by `Axes.axhline` or `Axes.axvline`."""
    angle = dividing_angle(table, within)
    if angle is not None:
        label = f"as good as float32 within {100 * within:.3g}%: below {angle:.3g} degrees of {INDICATOR}"
        axis(angle, color="#555555", linewidth=1, linestyle="--", zorder=1, label=label)


def error_against_activation(table: pd.DataFrame, title: str, within: float) -> Figure:
    """Angle of effect E against that of effect A for every format, coloured by bits, named formats and the first
    labelled. Filled marks are measured, hollow ones predicted; a line ends those as good as float32.

    Args:
        table: The columns of a ranking.
        title: Above the picture.
        within: The gap of those that count as good.
    """
    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    across, up = angle_column("A"), angle_column("E")
    shown = table[(table[up] > 0) & (table[across] > 0)]
    for bits in sorted(shown[BITS].dropna().unique(), reverse=True):
        colour, marker = STYLE.get(int(bits), OTHER)
        rows = shown[shown[BITS] == bits]
        measured = (rows[source_column("E")] == MEASURED) & (rows[source_column("A")] == MEASURED)
        axes.scatter(
            rows[~measured][across],
            rows[~measured][up],
            s=16,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            linewidths=0.7,
            label=f"{int(bits)} bits, predicted" if (~measured).any() else None,
        )
        axes.scatter(
            rows[measured][across],
            rows[measured][up],
            s=26,
            marker=marker,
            color=colour,
            linewidths=0,
            zorder=3,
            label=f"{int(bits)} bits, measured" if measured.any() else None,
        )
    unknown = shown[shown[BITS].isna()]
    if len(unknown):
        axes.scatter(unknown[across], unknown[up], s=26, color=OTHER[0], marker=OTHER[1], label="custom")
    _line(axes.axhline, shown, within)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="angle, activations quantized (degrees)",
        ylabel="angle, errors quantized (degrees)",
        title=title,
    )
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, frameon=False, loc="upper left")  # "best" takes seconds, and warns of it
    labelled = shown[shown[FAMILY].isin(LABELLED) | (shown.index == shown.index.min())]
    label_points(axes, labelled[[NAME, across, up]].itertuples(index=False), shown[[across, up]])
    return figure


def top(table: pd.DataFrame, by: str, count: int, title: str, within: float) -> Figure:
    """The first formats of a ranking or a search: angles with their 95% intervals, the first on top, ties on one grey
    band. Hollow marks are predicted.

    Coloured by bits; of a search, by what a format is there for, so that synthesized ones stand beside the standard
    ones.

    Args:
        table: The columns of a ranking or a search.
        by: The effect whose angle is drawn.
        count: How many are drawn.
        title: Above the picture.
        within: The gap of those that count as good as float32, where the indicator's angle is drawn.
    """
    rows = table.head(count)
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.26 * len(rows)), layout="constrained")
    searched = ROLE in rows.columns
    groups = [
        str(role).split()[0].rstrip(",") if searched else bits
        for role, bits in zip(rows.get(ROLE, rows[BITS]), rows[BITS], strict=True)
    ]
    names = list(dict.fromkeys(groups))
    labelled = set()
    for place, ((_, row), group) in enumerate(zip(rows.iterrows(), groups, strict=True)):
        colour, marker = (
            (COLOURS[names.index(group) % len(COLOURS)], "o")
            if searched
            else STYLE.get(-1 if pd.isna(group) else int(group), OTHER)
        )
        angle, low, high = (float(row[column]) for column in (angle_column(by), low_column(by), high_column(by)))
        label = str(group) if searched else "custom" if pd.isna(group) else f"{int(group)} bits"
        measured = row[source_column(by)] == MEASURED
        if low == low:
            axes.plot([low, high], [place, place], color=colour, linewidth=1.2, alpha=0.8)
        axes.plot(
            angle,
            place,
            marker=marker,
            color=colour,
            markerfacecolor=colour if measured else "white",
            linestyle="none",
            label=None if label in labelled else label,
        )
        labelled.add(label)
    ranks = rows[RANK].tolist()
    for rank in dict.fromkeys(ranks):
        if ranks.count(rank) > 1:
            first = ranks.index(rank)
            axes.axhspan(first - 0.45, first + ranks.count(rank) - 0.55, color="#888888", alpha=0.15, linewidth=0)
    if by == INDICATOR:
        _line(axes.axvline, table, within)
    axes.set_yticks(
        range(len(rows)), [f"{name}   {rank}" for name, rank in zip(rows[NAME], ranks, strict=True)], fontsize=8
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set(xlabel=f"angle of {by} (degrees, with 95% interval); grey: ties; hollow: predicted", title=title)
    axes.grid(True, axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def pareto_front(table: pd.DataFrame, by: str, title: str, within: float) -> Figure:
    """Angle against the gates of a lane, coloured by bits, with the line of those that no other beats in both, which
    are labelled.

    Args:
        table: Of a ranking with the column `gates`; rows without angle or gates are left out.
        by: The effect whose angle is drawn.
        title: Above the picture.
        within: As in `top`.
    """
    rows = table[table[GATES].notna() & table[angle_column(by)].notna()].reset_index(drop=True)
    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    for bits in sorted(rows[BITS].unique(), reverse=True):
        colour, marker = STYLE.get(int(bits), OTHER)
        part = rows[rows[BITS] == bits]
        axes.scatter(
            part[GATES],
            part[angle_column(by)],
            s=18,
            marker=marker,
            color=colour,
            alpha=0.7,
            linewidths=0,
            label=f"{int(bits)} bits",
        )
    front = rows.loc[pareto(zip(rows[angle_column(by)], rows[GATES], strict=True))].sort_values(GATES)
    axes.step(
        front[GATES],
        front[angle_column(by)],
        where="post",
        color="black",
        linewidth=1,
        label="no other is better in both",
    )
    if by == INDICATOR:
        _line(axes.axhline, table, within)
    axes.set(
        xlabel="gates of a multiply-accumulate lane (NAND2 equivalents)",
        ylabel=f"angle of {by} (degrees)",
        yscale="log",
        title=title,
    )
    log_axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    label_points(axes, front[[NAME, GATES, angle_column(by)]].itertuples(index=False), rows[[GATES, angle_column(by)]])
    return figure
