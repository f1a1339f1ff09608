"""What a validation shows: final loss against angle, as a picture and as a table."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from reports.plots import OTHER, STYLE, label_points, log_axis
from reports.tables import plain


def by_format(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per format, the smallest angle first: name, bits, angle, loss (mean of its seeds), loss_low, loss_high, metric, diverged (how many runs)."""
    grouped = runs.groupby("name", sort=False)
    table = grouped.agg(
        bits=("bits", "first"),
        angle=("angle", "first"),
        loss=("loss", "mean"),
        loss_low=("loss", "min"),
        loss_high=("loss", "max"),
        metric=("metric", "mean"),
        diverged=("outcome", lambda outcome: int((outcome == "diverged").sum())),
    )
    return table.sort_values("angle").reset_index()


def loss_against_angle(runs: pd.DataFrame, title: str) -> Figure:
    """Mean final loss of every format against its angle, both on logarithmic axes, coloured by bits; bars span its seeds.

    A format of which a run diverged stands above the others as a cross. `runs` has the columns of `training.validate.Validation.runs`.
    """
    table = by_format(runs)
    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    finite = table[np.isfinite(table["loss"])]
    for bits in sorted(finite["bits"].unique(), reverse=True):
        colour, marker = STYLE.get(int(bits), OTHER)
        rows = finite[finite["bits"] == bits]
        spread = [rows["loss"] - rows["loss_low"], rows["loss_high"] - rows["loss"]]
        axes.errorbar(
            rows["angle"],
            rows["loss"],
            yerr=spread,
            fmt=marker,
            color=colour,
            markersize=6,
            linewidth=1,
            capsize=2,
            label=f"{int(bits)} bits",
            zorder=5,
        )
    axes.set(xscale="log", yscale="log", xlabel="angle (degrees)", ylabel="training loss of the last epoch", title=title)
    diverged = table[~np.isfinite(table["loss"])]
    if len(diverged):
        # Above all losses, whatever they are.
        axes.scatter(
            diverged["angle"], [0.97] * len(diverged), marker="x", color="#D55E00", transform=axes.get_xaxis_transform(), label="diverged"
        )
    axes.set_xlim(table["angle"].min() / 1.15, table["angle"].max() * 1.35)  # room for names
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    label_points(axes, [(row.name, row.angle, row.loss) for row in finite.itertuples(index=False)])
    return figure


def table(runs: pd.DataFrame, title: str | None = None) -> Table:
    """A row per format, the smallest angle first."""
    headers = [
        ("format", "left"),
        ("bits", "right"),
        ("angle", "right"),
        ("final loss", "right"),
        ("seeds' range", "right"),
        ("metric", "right"),
    ]

    def cells(row: Any) -> list[str]:
        if row.diverged:
            return [row.name, str(row.bits), f"{row.angle:.2f}", f"{row.diverged} diverged", "", ""]
        metric = "-" if row.metric != row.metric else f"{row.metric:.4f}"
        return [row.name, str(row.bits), f"{row.angle:.2f}", f"{row.loss:.4f}", f"{row.loss_low:.4f} to {row.loss_high:.4f}", metric]

    return plain(title, headers, [cells(row) for row in by_format(runs).itertuples(index=False)])


def sentence(agreement: Any, effect: str) -> str:
    """The rank correlations of a validation in words."""
    return f"angle ({effect}) against final loss over {agreement.formats} formats: {correlations(agreement)}"


def correlations(agreement: Any) -> str:
    """The numbers of a `training.validate.Agreement`."""
    return (
        f"Spearman {agreement.spearman:.3f} "
        f"({agreement.spearman_low:.3f} to {agreement.spearman_high:.3f}), Kendall {agreement.kendall:.3f} "
        f"({agreement.kendall_low:.3f} to {agreement.kendall_high:.3f}); 95% bootstrap intervals"
    )
