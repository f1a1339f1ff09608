"""Plots of training: flips of weights, and the final loss against the angle that was to predict it."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from predictor.columns import GAP, NETWORK_NAME, angle_column
from predictor.risk import DIVERGED, WITHIN, Risk
from predictor.statistics import rank_correlations
from reports.plots.style import COLOURS, label_points, legend, log_axis, size, style_of
from reports.validation import by_format

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = {"hysteresis": "-", "nearest": "--", "stochastic": ":"}
SMOOTHED_OVER = 50
"""A smoothed line is the mean over this part of a run's steps."""


class Shown(NamedTuple):
    """A column of a run's steps: its name, what is above its plot, what its axis says."""

    column: str
    title: str
    axis: str


FLIPS = Shown("flip_rate", "flips of quantized weights", "share of quantized weights that change")
# The number is that of `training.oscillation`, which takes longer to load than this.
OSCILLATION = Shown(
    "oscillation",
    "oscillation of quantized weights",
    "share of quantized weights that flip back within 10 steps",
)


def _smoothed(rates: pd.DataFrame) -> pd.DataFrame:
    return rates.rolling(max(1, len(rates) // SMOOTHED_OVER), center=True, min_periods=1).mean().where(rates.notna())


def flips(table: pd.DataFrame, title: str, shown: Shown = FLIPS) -> Figure:
    """Share of quantized weights that change in a step, or that flip back, over the steps: a smoothed line a
    setting and rounding over faint points of all runs.

    Runs of one setting, which differ in their seed, are drawn as their mean with a band from the lowest to the highest.

    Args:
        table: The columns of `reports.runs.read_flips`.
        title: Above the picture.
        shown: Which of the two.
    """
    figure, axes = plt.subplots(figsize=size(5), layout="constrained")
    lowest, highest = float("inf"), 0.0
    for number, ((setting, rounding), rows) in enumerate(table.groupby(["setting", "rounding"], sort=False)):
        rates = rows.pivot(index="step", columns="run", values=shown.column)
        lines = _smoothed(rates)
        colour, seeds = COLOURS[number % len(COLOURS)], len(rates.columns)
        # Pixels in vector files too: a long run has tens of thousands of them.
        axes.plot(
            rates.index,
            rates,
            linestyle="none",
            marker=".",
            markersize=3,
            alpha=0.35,
            color=colour,
            markeredgewidth=0,
            rasterized=True,
        )
        label = f"{setting}, {rounding}" + (f" ({seeds} runs)" if seeds > 1 else "")
        if not lines.to_numpy().any():  # and no place on a logarithmic axis
            label += ": none"
        axes.plot(
            lines.index,
            lines.mean(axis=1),
            color=colour,
            linestyle=LINES.get(str(rounding), "-."),
            linewidth=1.6,
            zorder=3,
            label=label,
        )
        if seeds > 1:
            axes.fill_between(lines.index, lines.min(axis=1), lines.max(axis=1), color=colour, alpha=0.2, linewidth=0)
        lowest, highest = min(lowest, lines.where(lines > 0).min().min()), max(highest, lines.max().max())
    axes.set(
        xlabel="step; lines: running means over 2% of the steps",
        ylabel=shown.axis,
        title=title,
    )
    if highest >= 10 * lowest:
        # Zero lies below; a line that reaches it leaves the axes.
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(lowest / 2, min(1, highest * 2))
        log_axis(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    # Above, where no line can lie under it.
    named = axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    axes.set_title(title, pad=12 + 12 * -(-len(named.get_texts()) // 3))
    return figure


def loss_against_angle(runs: pd.DataFrame, title: str, effect: str = "") -> Figure:
    """Mean final loss of every format against its angle, both on logarithmic axes, coloured by bits; bars span its
    seeds. A format of which a run diverged stands above the others as a cross.

    Args:
        runs: The columns of `training.validation.Validation.runs`.
        title: Above the picture.
        effect: Whose angle it is.
    """
    table = by_format(runs)
    spearman, _ = rank_correlations(table["angle"].to_numpy(), table["loss"].to_numpy())
    title += f" Spearman {spearman:.2f}" if np.isfinite(spearman) else ""
    figure, axes = plt.subplots(figsize=size(6), layout="constrained")
    finite = table[np.isfinite(table["loss"])]
    for bits in sorted(finite["bits"].unique(), reverse=True):
        colour, marker = style_of(int(bits))
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
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"angle{f' of {effect}' * bool(effect)} (degrees); lower left is better",
        ylabel="training loss of the last epoch",
        title=title,
    )
    diverged = table[~np.isfinite(table["loss"])]
    if len(diverged):
        # Above all losses, whatever they are.
        axes.scatter(
            diverged["angle"],
            [0.97] * len(diverged),
            marker="x",
            color="#D55E00",
            transform=axes.get_xaxis_transform(),
            label="diverged",
        )
    axes.set_xlim(table["angle"].min() / 1.15, table["angle"].max() * 1.35)  # room for names
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    legend(axes, loc="upper left")
    label_points(axes, [(row.name, row.angle, row.loss) for row in finite.itertuples(index=False)])
    return figure


def gap_against_angle(trainings: pd.DataFrame, risk: Risk, title: str) -> Figure:
    """Final loss over that of float32 against the angle, both on logarithmic axes: every format's mean with a bar over
    its seeds, from the least to the most, coloured by network, and the function that tells gaps with its 95% interval.

    Args:
        trainings: The columns of `predictor.risk.bundled_trainings`.
        risk: Made of them.
        title: Above the picture.
    """
    figure, axes = plt.subplots(figsize=size(5.5), layout="constrained")
    column = angle_column(risk.indicator)
    drawn = trainings[trainings[column].notna() & trainings[GAP].notna()]
    grid = np.geomspace(drawn[column].min() / 1.3, risk.angles[-1], 300)
    gap, low, high = risk.gaps(grid.tolist())
    top = 1.3 * (1 + DIVERGED)
    axes.fill_between(
        grid, 1 + low, np.minimum(1 + high, top), color="#888888", alpha=0.2, linewidth=0, label="95% interval"
    )
    axes.plot(grid, 1 + gap, color="#333333", linewidth=1.4, label="what is told")
    axes.axhline(1 + WITHIN, color="#555555", linewidth=1, linestyle="--", label=f"{100 * WITHIN:.3g}% above float32")
    for number, (network, of_network) in enumerate(drawn.groupby(NETWORK_NAME, sort=False)):
        ratio = 1 + of_network.assign(gap=of_network[GAP].clip(upper=DIVERGED)).groupby(column)[GAP].agg(
            ["mean", "min", "max"]
        )
        axes.errorbar(
            ratio.index,
            ratio["mean"],
            yerr=[ratio["mean"] - ratio["min"], ratio["max"] - ratio["mean"]],
            fmt=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            linewidth=0.9,
            capsize=1.5,
            label=f"{network} ({len(of_network)} trainings)",
            zorder=5,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"angle of {risk.indicator} over the network, pretrained (degrees); less is better",
        ylabel="final training loss over float32's: mean, least and most of seeds",
        title=title,
    )
    axes.set_ylim(0.6, top)
    log_axis(axes.xaxis)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5), numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    legend(axes, loc="upper left")
    return figure
