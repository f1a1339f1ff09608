"""Plots of rankings, in one style that colour-blind readers can tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from workloads.files import write_atomically

ENDINGS = (".png", ".svg")
# Okabe and Ito's colours; shapes say the same again.
STYLE = {8: ("#0072B2", "o"), 7: ("#E69F00", "s"), 6: ("#009E73", "^")}
OTHER = ("#555555", "D")
LABELLED = ("INT", "FP")
PLOT_COLUMNS = ("name", "bits", "family", "angle_E", "angle_A", "source_E", "source_A")


def _axis(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _labels(axes: Any, points: pd.DataFrame) -> None:
    """Names beside their points, moved up or down where two would overlap."""
    axes.figure.canvas.draw()
    taken: list[Any] = []
    for _, row in points.sort_values("angle_A").iterrows():
        for dx, dy, side in ((6, 5, "left"), (6, -12, "left"), (-6, 5, "right"), (-6, -12, "right"), (6, 16, "left"), (-6, -24, "right")):
            text = axes.annotate(
                row["name"],
                (row["angle_A"], row["angle_E"]),
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
    _axis(axes.xaxis)
    _axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, frameon=False)
    _labels(axes, shown[shown["family"].isin(LABELLED) | (shown.index == shown.index.min())])
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the form that the ending says, then close it."""
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=150))
    plt.close(figure)
