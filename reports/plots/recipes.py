"""Plots of recipes: how far they turn a gradient and what does not average out, which product of which layer does it,
and what is gained where layers are kept in bfloat16."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from formats.recipes.presets import BASELINE
from formats.recipes.value import Product
from predictor.columns import (
    ALL,
    ANGLE_OF_MEAN,
    BIAS,
    BIAS_HIGH,
    BIAS_LOW,
    DRAWS,
    HIGH_OF_MEAN,
    HIGH_OF_PROJECTION,
    KEPT,
    LAYER,
    LOW_OF_MEAN,
    LOW_OF_PROJECTION,
    PART,
    PRODUCT,
    PROJECTION,
    RANK,
    RECIPE,
)
from predictor.recipe_comparison.parts import Part
from reports.plots.style import COLOURS, NARROW, OTHER, label_points, legend, log_axis, share, size, titled

RANDOM, PLAIN = (COLOURS[1], "s"), (COLOURS[0], "o")
"""Colour and mark of recipes with random numbers, and without."""
MARKS = "os^Dv<>"


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of recipes everywhere."""
    return table[(table[PRODUCT] == ALL) & (table[PART] == Part.EVERYWHERE)]


def plane(table: pd.DataFrame, title: str) -> Figure:
    """The bias of recipes against the angle of their mean, with 95% intervals, and the baseline's angle as a line: what
    lies there is free. A bias that is not above 0 lies on the lower edge, hollow; one that is not known, as on one
    mini-batch, is a cross there, and where none is known the axis has no numbers. Beside it the projection, by which
    recipes are ranked, the first at the top.

    Args:
        table: What `predictor.measure_recipes` gave.
        title: Above the picture.

    Raises:
        ValueError: It holds no recipe.
    """
    rows = _whole(table)
    rows = rows[rows[ANGLE_OF_MEAN] > 0]
    if not len(rows):
        raise ValueError("the table holds no recipe with an angle")
    (width, inches), beside_each_other = size(6), share() >= NARROW
    if beside_each_other:
        figure, (axes, beside) = plt.subplots(
            1, 2, figsize=(1.5 * width, inches), width_ratios=(2, 1), layout="constrained"
        )
    else:
        figure, (axes, beside) = plt.subplots(2, 1, figsize=(width, 1.8 * inches), layout="constrained")
    above, unknown = rows[BIAS] > 0, rows[BIAS].isna()
    floor = 0.5 * rows[above][BIAS].min() if above.any() else 1.0
    up = rows[BIAS].where(above, floor)
    places = {"": above, ", bias not above 0": ~above & ~unknown, ", bias not known": unknown}
    for random, (colour, marker) in ((False, PLAIN), (True, RANDOM)):
        for said, place in places.items():
            chosen = ((rows[DRAWS] > 1) == random) & place
            own, height = rows[chosen], up[chosen]
            if not len(own):
                continue
            known = place is above
            across = np.abs(own[[LOW_OF_MEAN, HIGH_OF_MEAN]].sub(own[ANGLE_OF_MEAN], axis=0).to_numpy().T)
            high = np.nan_to_num((own[BIAS_HIGH] - height).to_numpy()) if known else np.zeros(len(own))
            low = np.nan_to_num((height - own[BIAS_LOW].clip(lower=floor)).to_numpy()) if known else high
            axes.errorbar(
                own[ANGLE_OF_MEAN],
                height,
                xerr=np.nan_to_num(across),
                yerr=np.maximum([low, high], 0),
                linestyle="none",
                marker="x" if place is unknown else marker,
                color=colour,
                markerfacecolor=colour if known else "white",
                markersize=6,
                elinewidth=0.7,
                ecolor="#999999",
                label=("with random numbers" if random else "to nearest") + said,
            )
    baseline = rows[rows[RECIPE] == BASELINE]
    if len(baseline):
        angle = baseline[ANGLE_OF_MEAN].iloc[0]
        axes.axvline(angle, color="#555555", linewidth=1, linestyle="--", zorder=1, label=f"{BASELINE}: {angle:.3g}°")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="angle of the mean over draws (degrees)",
        ylabel="bias: what does not average out, over a mini-batch's own noise",
        title=title,
    )
    log_axis(axes.xaxis)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if not above.any():
        axes.yaxis.set_major_locator(NullLocator())
        axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    titled(axes, title, 4)
    label_points(axes, zip(rows[RECIPE], rows[ANGLE_OF_MEAN], up, strict=True))
    _projections(beside, rows)
    return figure


def _projections(axes: Axes, rows: pd.DataFrame) -> None:
    """The projection of each recipe with its 95% interval, and a line at 1."""
    places = range(len(rows))
    ends = rows.reindex(columns=[LOW_OF_PROJECTION, HIGH_OF_PROJECTION]).sub(rows[PROJECTION], axis=0)
    axes.errorbar(
        rows[PROJECTION],
        places,
        xerr=np.nan_to_num(np.abs(ends.to_numpy().T)),
        linestyle="none",
        marker="o",
        markersize=5,
        color=OTHER[0],
        elinewidth=0.7,
        ecolor="#999999",
    )
    axes.axvline(1, color="#555555", linewidth=1, linestyle="--", zorder=1)
    axes.set_yticks(
        places, [f"{rank}  {name}" for rank, name in zip(rows[RANK], rows[RECIPE], strict=True)], fontsize=8
    )
    axes.invert_yaxis()
    axes.set_xlabel("projection; 1 keeps the gradient's length")
    axes.grid(True, axis="x", linewidth=0.4, alpha=0.5)


def products(table: pd.DataFrame, title: str) -> Figure:
    """The angle of each product of each layer alone as a heat map, layers downwards; recipes beside each other.

    Args:
        table: What `predictor.measure_recipes` gave with `by` both.
        title: Above the picture.

    Raises:
        ValueError: It holds no product of a layer.
    """
    rows = table[(table[PRODUCT] != ALL) & (table[LAYER] != ALL) & (table[RECIPE] != BASELINE)]
    if not len(rows):
        raise ValueError("the table holds no product of a layer; measure with `formats recipes --by both`")
    recipes = rows[RECIPE].unique()
    figure, axes = plt.subplots(
        1,
        len(recipes),
        figsize=(2.6 + 2.1 * len(recipes), 1.8 + 0.24 * rows[LAYER].nunique()),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for own, name in zip(axes[0], recipes, strict=True):
        grid = rows[rows[RECIPE] == name].pivot(index=LAYER, columns=PRODUCT, values=ANGLE_OF_MEAN)
        grid = grid.reindex(index=rows[LAYER].unique(), columns=[product.value for product in Product])
        angles = grid.to_numpy(np.float64)
        # Each recipe by itself: what is asked is where it comes from.
        own.imshow(angles, cmap="viridis", aspect="auto", vmin=0)
        largest = np.nanmax(angles)
        for (down, across), angle in np.ndenumerate(angles):
            said, dark = ("-", False) if np.isnan(angle) else (f"{angle:.3g}", angle <= 0.6 * largest)
            colour = "white" if dark else "black"
            own.text(across, down, said, ha="center", va="center", fontsize=7, color=colour)
        own.set_xticks(range(len(grid.columns)), list(grid.columns), fontsize=8)
        own.set_yticks(range(len(grid)), list(grid.index), fontsize=8)
        own.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel("angle, only this product of this layer in the recipe (degrees)", fontsize=9)
    return figure


def kept(table: pd.DataFrame, title: str) -> Figure:
    """The angle of the mean against the share of multiply-accumulates that are kept in bfloat16, a line a recipe, with
    95% intervals; the baseline's angle as a line.

    Args:
        table: What `predictor.measure_recipes` gave with `keep`.
        title: Above the picture.

    Raises:
        ValueError: In no row of it anything is kept.
    """
    of_kept = table[table[PART] == Part.KEPT]
    if not len(of_kept):
        raise ValueError("the table holds nothing that is kept; measure with `formats recipes --keep 5%,15%`")
    figure, axes = plt.subplots(figsize=size(5), layout="constrained")
    whole = _whole(table)
    for place, name in enumerate(of_kept[RECIPE].unique()):
        rows = pd.concat([whole[whole[RECIPE] == name], of_kept[of_kept[RECIPE] == name]]).sort_values(KEPT)
        half = np.nan_to_num(np.abs(rows[[LOW_OF_MEAN, HIGH_OF_MEAN]].sub(rows[ANGLE_OF_MEAN], axis=0).to_numpy().T))
        colour = COLOURS[place % len(COLOURS)]
        axes.errorbar(
            100 * rows[KEPT],
            rows[ANGLE_OF_MEAN],
            yerr=half,
            color=colour,
            marker=MARKS[place % len(MARKS)],
            markersize=5,
            linewidth=1.2,
            elinewidth=0.7,
            capsize=2,
            label=name,
        )
    baseline = whole[whole[RECIPE] == BASELINE][ANGLE_OF_MEAN]
    if len(baseline):
        angle = baseline.iloc[0]
        axes.axhline(angle, color=OTHER[0], linewidth=1, linestyle="--", label=f"{BASELINE}: {angle:.3g}°")
    axes.set(
        yscale="log",
        xlabel="multiply-accumulates that are kept in bfloat16 (%)",
        ylabel="angle of the mean over draws (degrees)",
        title=title,
    )
    log_axis(axes.yaxis)
    axes.set_xlim(left=-0.02 * 100 * of_kept[KEPT].max())
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    legend(axes, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
