"""Plots of what causes an angle: kinds of tensor, and layers."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from predictor.columns import (
    ALONE,
    ANGLE,
    EFFECT,
    FORMAT,
    KIND,
    LAYER,
    MODULE,
    SCOPE,
    WITHOUT,
    angle_column,
    high_column,
    low_column,
)
from reports.plots.style import OTHER, size

KINDS = {
    "W": ("#E69F00", "W, weights"),
    "A": ("#0072B2", "A, activations"),
    "E": ("#009E73", "E, errors"),
    "G": ("#CC79A7", "G, weight gradients"),
}
LAYERS_SHOWN = 24
LETTERS = 9
"""Names of columns that are longer than so many letters are turned."""


def _bars(axes: Any, rows: pd.DataFrame, names: list[str]) -> None:
    """One bar a row, the first on top: the angle alone with its interval, which ends at the axis."""
    places = range(len(rows))
    angles = rows[angle_column(ALONE)]
    below = (angles - rows[low_column(ALONE)]).clip(upper=angles)
    half = [below.fillna(0), (rows[high_column(ALONE)] - angles).fillna(0)]
    colours = [KINDS.get(kind, OTHER)[0] for kind in rows[KIND]]
    axes.barh(
        places,
        angles,
        color=colours,
        height=0.7,
        xerr=half,
        error_kw={"linewidth": 0.8, "ecolor": "#333333", "capsize": 1.5},
    )
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(True, axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)


def attribution(table: pd.DataFrame, title: str) -> Figure:
    """Which kinds of tensor and which layers cause the angle: bars of the angle alone, coloured by kind, the largest
    layers first.

    Above, everything and the four kinds, with a mark at the angle that is left without each; below, the layers.

    Args:
        table: What `predictor.attribution.attribute` gave.
        title: Above the picture.
    """
    kinds = table[table[LAYER] == "all"]
    layers = (
        table[table[LAYER] != "all"].sort_values(angle_column(ALONE), ascending=False, kind="stable").head(LAYERS_SHOWN)
    )
    height = 1.2 + 0.24 * (len(kinds) + max(len(layers), 1))
    figure, (above, below) = plt.subplots(
        2, 1, figsize=size(1.2 + height), height_ratios=(len(kinds) + 1, max(len(layers), 1) + 1), layout="constrained"
    )
    _bars(above, kinds, [KINDS[kind][1] if kind in KINDS else "everything" for kind in kinds[KIND]])
    # Nothing is left without everything: that row has no such angle.
    above.plot(
        kinds[angle_column(WITHOUT)],
        range(len(kinds)),
        linestyle="none",
        marker="D",
        markersize=5,
        color="black",
        label="angle of everything else",
    )
    # Where no bar or mark can lie under it.
    above.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    above.set_title(title, pad=22)
    named = zip(layers[LAYER], layers[MODULE], layers[KIND], strict=True)
    _bars(below, layers, ["  ".join(filter(None, words)) for words in named])
    interval = ", with 95% interval" if layers[high_column(ALONE)].notna().any() else ""
    figure.supxlabel(f"angle, only this rounded (degrees{interval}): what it causes", fontsize=10)
    return figure


def layers(table: pd.DataFrame, title: str) -> Figure:
    """Angles of every layer as a heat map, layers downwards.

    Args:
        table: What `predictor.attribution.attribute` gave (its kinds across, by the angle alone), or
            `predictor.measure` with the scope layers (formats and effects across).
        title: Above the picture.

    Raises:
        ValueError: It holds no layers.
    """
    if {KIND, LAYER, angle_column(ALONE)} <= set(table.columns):
        rows = table[table[LAYER] != "all"]
        # Points are everywhere, weights not: where there are both, their layers stand in the order of the network.
        order = pd.unique(pd.concat([rows[LAYER][rows[KIND] == "A"], rows[LAYER]]))
        grid = rows.pivot(index=LAYER, columns=KIND, values=angle_column(ALONE)).loc[order]
        if MODULE in rows:
            modules = dict(zip(rows[LAYER], rows[MODULE].fillna(""), strict=True))
            grid.index = pd.Index([f"{layer}  {modules[layer]}".rstrip() for layer in grid.index])
        grid, shows = grid[[kind for kind in KINDS if kind in grid.columns]], "only this rounded: what it causes"
    elif {FORMAT, EFFECT, SCOPE, ANGLE} <= set(table.columns):
        rows = table[~table[SCOPE].isin(("all", "first"))]
        rows = rows.assign(column=rows[FORMAT] + (", " + rows[EFFECT] if rows[EFFECT].nunique() > 1 else ""))
        grid = rows.pivot(index=SCOPE, columns="column", values=ANGLE)
        grid, shows = grid.loc[rows[SCOPE].unique(), rows["column"].unique()], "where the angle arrives"
    else:
        raise ValueError(
            "angles by layer are drawn of what `formats attribute` or `formats measure --scope layers` wrote"
        )
    if not grid.size:
        raise ValueError("the table holds no layer; measure with --scope layers")
    figure, axes = plt.subplots(figsize=(3.6 + 0.75 * len(grid.columns), 1.6 + 0.24 * len(grid)), layout="constrained")
    image = axes.imshow(grid.to_numpy(np.float64), cmap="viridis", aspect="auto", vmin=0)
    turned = len(grid.columns) > 4 or max(len(str(column)) for column in grid.columns) > LETTERS
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(range(len(grid.columns)), [str(column) for column in grid.columns], fontsize=8, **slanted)
    axes.set_yticks(range(len(grid)), [str(layer) for layer in grid.index], fontsize=8)
    largest = np.nanmax(grid.to_numpy(np.float64))
    for (row, column), angle in np.ndenumerate(grid.to_numpy(np.float64)):
        if angle == angle:
            axes.text(
                column,
                row,
                f"{angle:.3g}",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if angle > 0.6 * largest else "white",
            )
    figure.colorbar(image, label="angle (degrees)", shrink=min(1.0, 6 / len(grid)) if len(grid) > 12 else 1)
    axes.set_xlabel(shows, fontsize=9)
    axes.set_title(title, fontsize=11)
    return figure
