"""Plots of rankings: all formats, the first few, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from predictor.columns import (
    BITS,
    FAMILY,
    GATES,
    NAME,
    RANK,
    ROLE,
    angle_column,
    high_column,
    low_column,
)
from predictor.risk import division
from predictor.statistics import pareto
from reports.plots.style import COLOURS, fill, keys, label_points, legend, log_axis, share, size, style_of, titled
from reports.sources import Source, source_of
from reports.tables import costs

LABELLED = ("INT", "FP")
ALL_NAMED = 24
"""Up to so many formats, which somebody chose, each gets its name."""
LETTERS = 70
"""So many letters of names stand side by side; more are turned."""
SLANTED = 30
"""So many names stand at a slant side by side; more stand upright."""
WHISKER: dict[str, Any] = {"ecolor": "#333333", "linewidth": 0.8, "capsize": 1.5}
"""How intervals are drawn over marks of one colour."""
BAR = 0.8
"""Share of a format's place that its bars take."""
TALLEST, NUMBERS = 1.6, 0.86
"""How far the axis of bars goes, in the largest angle, and up to which share of it their numbers begin."""
NUMBERED = 40
"""Up to so many bars have their number."""
NO_WIDTH = -1
"""Stands for the bits of formats that have none."""


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(row[NAME]) for row in rows)


def _place(row: Mapping[str, Any]) -> tuple[float, float]:
    return float(row[angle_column("A")]), float(row[angle_column("E")])


def _line(axis: Callable[..., object], table: pd.DataFrame, by: str, within: float) -> None:
    """Draw where formats as good as float32 end, by `Axes.axhline` or `Axes.axvline`; nothing where another effect than
    this one orders the table and tells the gaps."""
    divided = division(table, within, by)
    if divided is not None:
        upto = f"up to {divided.below:.3g} degrees of {by}, the next {divided.above:.3g}"
        label = f"as good as float32 within {100 * within:.3g}%: {upto}"
        axis(divided.middle, color="#555555", linewidth=1, linestyle="--", zorder=1, label=label)


def _sources(rows: pd.DataFrame, effects: Sequence[str], minibatches: int | None) -> list[Source]:
    """Of every row, what the least certain of these angles rests on."""
    order = list(Source)
    return [
        max((source_of(row, effect, minibatches) for effect in effects), key=order.index) for _, row in rows.iterrows()
    ]


def _marks(axes: Any, rows: pd.DataFrame, at: tuple[str, str], sources: Sequence[Source]) -> None:
    """Formats at these columns, by width, filled as their angles were found, and the legend's entries of both."""
    found, groups = pd.Series(list(sources), rows.index, dtype=object), {}
    for bits in sorted(rows[BITS].fillna(NO_WIDTH).unique(), reverse=True):
        colour, marker = style_of(int(bits))
        groups[f"{int(bits)} bits" if bits != NO_WIDTH else "custom"] = (colour, marker)
        mine = rows[BITS].fillna(NO_WIDTH) == bits
        for place, source in enumerate(reversed(Source)):
            part = rows[mine & (found == source)]
            look = {"facecolors": [fill(colour, source)], "edgecolors": colour, "linewidths": 0.7, "zorder": 2 + place}
            axes.scatter(part[at[0]], part[at[1]], marker=marker, s=20, **look)
    keys(axes, groups, sources)


def error_against_activation(
    table: pd.DataFrame,
    title: str,
    named: Sequence[str] = (),
    yardsticks: Sequence[Mapping[str, Any]] = (),
    minibatches: int | None = None,
) -> Figure:
    """Angle of effect E against that of effect A for every format, coloured by bits, named formats and the first
    labelled. Filled marks are measured, pale ones on some mini-batches only, hollow ones predicted.

    Args:
        table: The columns of a ranking.
        title: Above the picture.
        named: Formats that get their name whatever else does.
        yardsticks: Rows of formats that the ranking is held against, drawn as stars.
        minibatches: Of the ranking.
    """
    figure, axes = plt.subplots(figsize=size(6), layout="constrained")
    across, up = angle_column("A"), angle_column("E")
    shown = table[(table[up] > 0) & (table[across] > 0)]
    _marks(axes, shown, (across, up), _sources(shown, ("E", "A"), minibatches))
    beside = [row for row in yardsticks if row.get(across) and row.get(up)]
    if beside:
        at = [row[across] for row in beside], [row[up] for row in beside]
        axes.scatter(*at, s=70, marker="*", color="black", zorder=4, label="held against: " + _names(beside))
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="angle of A, activations rounded (degrees); lower left is better",
        ylabel="angle of E, errors rounded (degrees)",
        title=title,
    )
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    legend(axes, loc="upper left")  # "best" takes seconds, and warns of it
    few = len(shown) <= ALL_NAMED
    wanted = few | shown[FAMILY].isin(LABELLED) | (shown.index == shown.index.min()) | shown[NAME].isin(named)
    points = [
        *shown[wanted][[NAME, across, up]].itertuples(index=False),
        *((row[NAME], *_place(row)) for row in beside),
    ]
    label_points(axes, points, shown[[across, up]], first=named)
    return figure


def top(table: pd.DataFrame, by: str, count: int, title: str, within: float, minibatches: int | None = None) -> Figure:
    """The first formats of a ranking or a search: angles with their 95% intervals, the first on top, ties on one grey
    band. Pale marks are measured on some mini-batches only, hollow ones predicted.

    Coloured by bits; of a search, by what a format is there for, so that synthesized ones stand beside the standard
    ones.

    Args:
        table: The columns of a ranking or a search.
        by: The effect whose angle is drawn.
        count: How many are drawn.
        title: Above the picture.
        within: The gap of those that count as good as float32, where the angle that tells it is drawn.
        minibatches: Of the ranking.
    """
    rows = table.head(count)
    figure, axes = plt.subplots(figsize=size(1.2 + 0.26 * len(rows)), layout="constrained")
    searched = ROLE in rows.columns
    groups = [
        str(role).split()[0].rstrip(",") if searched else bits
        for role, bits in zip(rows.get(ROLE, rows[BITS]), rows[BITS], strict=True)
    ]
    names = list(dict.fromkeys(groups))
    looks, sources = {}, _sources(rows, [by], minibatches)
    for place, ((_, row), group, source) in enumerate(zip(rows.iterrows(), groups, sources, strict=True)):
        colour, marker = (
            (COLOURS[names.index(group) % len(COLOURS)], "o")
            if searched
            else style_of(NO_WIDTH if pd.isna(group) else int(group))
        )
        looks[str(group) if searched else "custom" if pd.isna(group) else f"{int(group)} bits"] = (colour, marker)
        angle, low, high = (float(row[column]) for column in (angle_column(by), low_column(by), high_column(by)))
        if low == low:
            axes.plot([low, high], [place, place], color=colour, linewidth=1.2, alpha=0.8)
        inside = fill(colour, source)
        axes.plot(angle, place, marker=marker, color=colour, markerfacecolor=inside, linestyle="none")
    keys(axes, looks, sources)
    ranks = rows[RANK].tolist()
    for rank in dict.fromkeys(ranks):
        if ranks.count(rank) > 1:
            first = ranks.index(rank)
            axes.axhspan(first - 0.45, first + ranks.count(rank) - 0.55, color="#888888", alpha=0.15, linewidth=0)
    _line(axes.axvline, table, by, within)
    axes.set_yticks(
        range(len(rows)), [f"{rank}.  {name}" for name, rank in zip(rows[NAME], ranks, strict=True)], fontsize=8
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set(
        xlabel=f"angle of {by} (degrees), with 95% intervals; grey: ties",
    )
    axes.grid(True, axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    titled(axes, title, 6)
    return figure


def bars(
    table: pd.DataFrame,
    effects: Sequence[str],
    title: str,
    yardsticks: Sequence[Mapping[str, Any]] = (),
    minibatches: int | None = None,
) -> Figure:
    """The angles of a few formats, a group of bars each with a bar an effect, its 95% interval and its number, beside
    formats whose training is known. Pale bars are measured on some mini-batches only, hollow ones predicted.

    Args:
        table: The columns of a ranking; every row is drawn.
        effects: Whose angles.
        title: Above the picture.
        yardsticks: Rows of formats that the ranking is held against.
        minibatches: Of the ranking.
    """
    rows: list[Any] = [*(row for _, row in table.iterrows()), *yardsticks]
    figure, axes = plt.subplots(figsize=size(4.5), layout="constrained")
    wide = BAR / len(effects)
    looks = {effect: (COLOURS[number % len(COLOURS)], "s") for number, effect in enumerate(effects)}
    for number, effect in enumerate(effects):
        places = [place + (number - (len(effects) - 1) / 2) * wide for place in range(len(rows))]
        angles, lows, highs = (
            [float("nan") if row.get(column) is None else float(row[column]) for row in rows]
            for column in (angle_column(effect), low_column(effect), high_column(effect))
        )
        spread = [
            [0.0 if end != end or angle != angle else abs(end - angle) for angle, end in zip(angles, ends, strict=True)]
            for ends in (lows, highs)
        ]
        colour = looks[effect][0]
        inside = [fill(colour, source_of(row, effect, minibatches)) for row in rows]
        axes.bar(places, angles, width=wide, color=inside, edgecolor=colour, linewidth=0.8)
        known = [place for place in range(len(rows)) if spread[0][place] or spread[1][place]]
        axes.errorbar(
            [places[place] for place in known],
            [angles[place] for place in known],
            yerr=[[side[place] for place in known] for side in spread],
            fmt="none",
            **WHISKER,
        )
    angled = [(row, effect) for row in rows for effect in effects if not pd.isna(row.get(angle_column(effect)))]
    keys(axes, looks, [source_of(row, effect, minibatches) for row, effect in angled])
    if yardsticks:
        axes.axvline(len(table) - 0.5, color="#555555", linewidth=0.8, linestyle=":")
    longest = max(len(str(row[NAME])) for row in rows)
    slanted: dict[str, Any] = {}
    if longest * len(rows) > LETTERS * share():
        upright = len(rows) > SLANTED * share()
        slanted = {"ha": "right", "rotation_mode": "anchor"} | (
            {"rotation": 90, "va": "center"} if upright else {"rotation": 40}
        )
    axes.set_xticks(range(len(rows)), [str(row[NAME]) for row in rows], fontsize=8, **slanted)
    axes.set(ylabel="angle (degrees); less is better")
    drawn = [float(row[angle_column(effect)]) for row, effect in angled]
    # Intervals of few mini-batches may reach so far that bars would be lost below them.
    top = TALLEST * max(drawn, default=1.0) or 1.0
    axes.set_ylim(0, top)
    if len(drawn) <= NUMBERED * share():
        _numbers(axes, rows, effects, wide, top)
    axes.grid(True, axis="y", which="major", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    titled(axes, title, len(effects) + len(Source))
    return figure


def _tied_with(front: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that share a rank with another one on the front, which angles do not tell them from."""
    if RANK not in rows.columns:
        return rows[:0]
    others = {index: set(front[RANK][front.index != index]) for index in rows.index}
    return rows[[rank in others[index] for index, rank in rows[RANK].items()]]


def _numbers(axes: Any, rows: Sequence[Any], effects: Sequence[str], wide: float, top: float) -> None:
    """Each bar's angle above it and its interval, since small ones cannot be read from an axis that begins at 0."""
    for number, effect in enumerate(effects):
        for place, row in enumerate(rows):
            angle, high = row.get(angle_column(effect)), row.get(high_column(effect))
            if not pd.isna(angle):
                across = place + (number - (len(effects) - 1) / 2) * wide
                end = angle if pd.isna(high) else max(angle, high)
                axes.annotate(
                    f"{angle:.3g}",
                    (across, min(end, NUMBERS * top)),
                    xytext=(0, 3),
                    textcoords="offset points",
                    fontsize=7,
                    rotation=90,
                    ha="center",
                    va="bottom",
                    bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
                )


def pareto_front(
    table: pd.DataFrame,
    by: str,
    title: str,
    within: float,
    named: Sequence[str] = (),
    minibatches: int | None = None,
) -> Figure:
    """Angle against the gates of a multiply-accumulate, coloured by bits, filled as in `top`, with the line of those
    that no other beats in both, which are labelled; rings are around formats of equal rank with one on the line; †
    stands behind names whose gates leave something out, said below.

    Args:
        table: Of a ranking with the column `gates`; rows without angle or gates are left out.
        by: The effect whose angle is drawn.
        title: Above the picture.
        within: As in `top`.
        named: Formats that get their name, on the front or not.
        minibatches: Of the ranking.
    """
    rows = table[table[GATES].notna() & table[angle_column(by)].notna()].reset_index(drop=True)
    figure, axes = plt.subplots(figsize=size(6), layout="constrained")
    _marks(axes, rows, (GATES, angle_column(by)), _sources(rows, [by], minibatches))
    if len(rows) <= ALL_NAMED and {low_column(by), high_column(by)} <= set(rows.columns):
        axes.vlines(rows[GATES], rows[low_column(by)], rows[high_column(by)], color="#888888", linewidth=0.8, zorder=1)
    front = rows.loc[pareto(zip(rows[angle_column(by)], rows[GATES], strict=True))].sort_values(GATES)
    axes.step(
        front[GATES],
        front[angle_column(by)],
        where="post",
        color="black",
        linewidth=1,
        label="no other is better in both",
    )
    _line(axes.axhline, table, by, within)
    tied = _tied_with(front, rows)
    if len(tied):
        at = tied[GATES], tied[angle_column(by)]
        label = "not told apart by its angle from one on the line"
        axes.scatter(*at, s=75, facecolors="none", edgecolors="#888888", linewidths=1, zorder=1.5, label=label)
    wanted = rows.index.isin(front.index) | (len(rows) <= ALL_NAMED) | rows[NAME].isin(named)
    marked = costs.what_is_marked(row for _, row in rows[wanted].iterrows())
    axes.set(
        xlabel="\n".join(
            ["gates of a multiply-accumulate, scales included (NAND2 equivalents); lower left is better", *marked]
        ),
        ylabel=f"angle of {by} (degrees)",
        yscale="log",
        title=title,
    )
    log_axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    legend(axes, loc="lower right")
    shown = rows[wanted]
    marks = [costs.MARK if costs.not_counted(row) else "" for _, row in shown.iterrows()]
    points = zip(shown[NAME] + marks, shown[GATES], shown[angle_column(by)], strict=True)
    first = {name + mark for name in named for mark in ("", costs.MARK)}
    label_points(axes, points, rows[[GATES, angle_column(by)]], first=first)
    return figure
