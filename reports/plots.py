"""Plots of rankings, attributions and training runs, in one style that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from workloads.files import write_atomically

ENDINGS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours; shapes say the same again.
STYLE = {8: ("#0072B2", "o"), 7: ("#E69F00", "s"), 6: ("#009E73", "^")}
OTHER = ("#555555", "D")
LABELLED = ("INT", "FP")
KINDS = {
    "W": ("#E69F00", "W, weights"),
    "A": ("#0072B2", "A, activations"),
    "E": ("#009E73", "E, errors"),
    "G": ("#CC79A7", "G, weight gradients"),
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = {"hysteresis": "-", "nearest": "--", "stochastic": ":"}
LAYERS_SHOWN = 24
SMOOTHED_OVER = 50
"""A smoothed line is the mean over this part of a run's steps."""
PLOT_COLUMNS = ("name", "bits", "family", "angle_E", "angle_A", "source_E", "source_A")


def log_axis(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def label_points(axes: Any, points: Iterable[tuple[str, float, float]]) -> None:
    """Names beside their points (name, x, y), moved up or down where two would overlap, left out where nothing helps."""
    axes.figure.canvas.draw()
    taken: list[Any] = []
    for name, x, y in sorted(points, key=lambda point: point[1]):
        for dx, dy, side in ((6, 5, "left"), (6, -12, "left"), (-6, 5, "right"), (-6, -12, "right"), (6, 16, "left"), (-6, -24, "right")):
            text = axes.annotate(
                name,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=side,
                fontsize=8,
                zorder=4,
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
                arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": "#555555", "shrinkA": 0, "shrinkB": 2},
            )
            place = text.get_window_extent()
            if not any(place.overlaps(other) for other in taken):
                taken.append(place)
                break
            text.remove()


def error_against_activation(table: pd.DataFrame, title: str) -> Figure:
    """Angle of effect E against that of effect A for every format, coloured by bits, named formats and the first labelled.

    Filled marks are measured, hollow ones predicted. `table` has the columns of a ranking.
    """
    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    shown = table[(table["angle_E"] > 0) & (table["angle_A"] > 0)]
    for bits in sorted(shown["bits"].dropna().unique(), reverse=True):
        colour, marker = STYLE.get(int(bits), OTHER)
        rows = shown[shown["bits"] == bits]
        measured = (rows["source_E"] == "measured") & (rows["source_A"] == "measured")
        axes.scatter(
            rows[~measured]["angle_A"],
            rows[~measured]["angle_E"],
            s=16,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            linewidths=0.7,
            label=f"{int(bits)} bits, predicted" if (~measured).any() else None,
        )
        axes.scatter(
            rows[measured]["angle_A"],
            rows[measured]["angle_E"],
            s=26,
            marker=marker,
            color=colour,
            linewidths=0,
            zorder=3,
            label=f"{int(bits)} bits, measured" if measured.any() else None,
        )
    unknown = shown[shown["bits"].isna()]
    if len(unknown):
        axes.scatter(unknown["angle_A"], unknown["angle_E"], s=26, color=OTHER[0], marker=OTHER[1], label="custom")
    axes.set(
        xscale="log", yscale="log", xlabel="angle, activations quantized (degrees)", ylabel="angle, errors quantized (degrees)", title=title
    )
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, frameon=False)
    labelled = shown[shown["family"].isin(LABELLED) | (shown.index == shown.index.min())]
    label_points(axes, labelled[["name", "angle_A", "angle_E"]].itertuples(index=False))
    return figure


def _bars(axes: Any, rows: pd.DataFrame, names: list[str]) -> None:
    """One bar a row, the first on top: the angle alone with its interval, which ends at the axis."""
    places = range(len(rows))
    angles = rows["angle_alone"]
    below = (angles - rows["low_alone"]).clip(upper=angles)
    half = [below.fillna(0), (rows["high_alone"] - angles).fillna(0)]
    colours = [KINDS.get(kind, OTHER)[0] for kind in rows["kind"]]
    axes.barh(places, angles, color=colours, height=0.7, xerr=half, error_kw={"linewidth": 0.8, "ecolor": "#333333", "capsize": 1.5})
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(True, axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)


def attribution(table: pd.DataFrame, title: str) -> Figure:
    """Which kinds of tensor and which layers cause the angle: bars of the angle alone, coloured by kind, the largest layers first.

    Above, everything and the four kinds, with a mark at the angle that is left without each; below, the layers. `table` has the columns of
    predictor.attribute.
    """
    kinds = table[table["layer"] == "all"]
    layers = table[table["layer"] != "all"].sort_values("angle_alone", ascending=False, kind="stable").head(LAYERS_SHOWN)
    height = 1.2 + 0.24 * (len(kinds) + max(len(layers), 1))
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 1.2 + height), height_ratios=(len(kinds) + 1, max(len(layers), 1) + 1), layout="constrained"
    )
    _bars(above, kinds, [KINDS[kind][1] if kind in KINDS else "everything" for kind in kinds["kind"]])
    # Nothing is left without everything: that row has no such angle.
    above.plot(
        kinds["angle_without"],
        range(len(kinds)),
        linestyle="none",
        marker="D",
        markersize=5,
        color="black",
        label="angle of everything else",
    )
    above.legend(fontsize=8, frameon=False, loc="lower right")
    above.set_title(title)
    _bars(below, layers, [f"{layer}   {kind}" for kind, layer in zip(layers["kind"], layers["layer"], strict=True)])
    figure.supxlabel("angle, only this quantized (degrees, with 95% interval)", fontsize=10)
    return figure


def _smoothed(rates: pd.DataFrame) -> pd.DataFrame:
    return rates.rolling(max(1, len(rates) // SMOOTHED_OVER), center=True, min_periods=1).mean().where(rates.notna())


def flips(table: pd.DataFrame, title: str) -> Figure:
    """Share of quantized weights that change in a step, over the steps: a smoothed line a setting and rounding over faint points of all runs.

    Runs of one setting, which differ in their seed, are drawn as their mean with a band from the lowest to the highest. `table` has the columns of
    reports.runs.read_flips.
    """
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    lowest, highest = float("inf"), 0.0
    for number, ((setting, rounding), rows) in enumerate(table.groupby(["setting", "rounding"], sort=False)):
        rates = rows.pivot(index="step", columns="run", values="flip_rate")
        lines = _smoothed(rates)
        colour, seeds = COLOURS[number % len(COLOURS)], len(rates.columns)
        # Pixels in vector files too: a long run has tens of thousands of them.
        axes.plot(
            rates.index, rates, linestyle="none", marker=".", markersize=3, alpha=0.35, color=colour, markeredgewidth=0, rasterized=True
        )
        label = f"{setting}, {rounding}" + (f" ({seeds} runs)" if seeds > 1 else "")
        axes.plot(
            lines.index, lines.mean(axis=1), color=colour, linestyle=LINES.get(str(rounding), "-."), linewidth=1.6, zorder=3, label=label
        )
        if seeds > 1:
            axes.fill_between(lines.index, lines.min(axis=1), lines.max(axis=1), color=colour, alpha=0.2, linewidth=0)
        lowest, highest = min(lowest, lines.where(lines > 0).min().min()), max(highest, lines.max().max())
    axes.set(xlabel="step", ylabel="share of quantized weights that change", title=title)
    if highest >= 10 * lowest:
        # Zero lies below; a line that reaches it leaves the axes.
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(lowest / 2, min(1, highest * 2))
        log_axis(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, frameon=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the form that the ending says, then close it."""
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=150))
    plt.close(figure)
