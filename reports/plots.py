"""Plots of rankings, attributions and training runs, in one style that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

import formats
from search.cost import pareto
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
BINADES_SHOWN = 20
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


def profiles(given: Sequence[tuple[str, Sequence[int]]], title: str) -> Figure:
    """Significant bits against binade, a panel for every format, one below the other over the same binades. given: names and profiles."""
    figure, panels = plt.subplots(
        len(given), 1, figsize=(8, 0.9 + 1.3 * len(given)), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    highest = max(max(profile) for _, profile in given)
    for number, (axes, (name, profile)) in enumerate(zip(panels[:, 0], given, strict=True)):
        axes.bar([-binade for binade in range(len(profile))], profile, width=0.85, color=COLOURS[number % len(COLOURS)])
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_ylim(0, highest + 0.5)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        axes.grid(True, axis="y", linewidth=0.4, alpha=0.5)
        axes.set_axisbelow(True)
    panels[-1, 0].set_xlim(0.7, 0.3 - max(len(profile) for _, profile in given))
    panels[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("binade, relative to the top exponent T", fontsize=10)
    figure.supylabel("significant bits", fontsize=10)
    figure.suptitle(title, fontsize=12)
    return figure


def histograms(tensors: Mapping[str, NDArray[np.float32]], given: Sequence[tuple[str, Sequence[int]]], title: str) -> Figure:
    """How tensors' elements lie over the binades below their largest magnitude, a panel each, with formats' precisions drawn over them.

    Wide bars are elements, narrow ones their energy (squared magnitude), which is what rounding noise is weighed against. given: names and profiles, whose
    top is put on the tensor's. Zeros and what is not finite count for nothing; so do binades further down than any profile and BINADES_SHOWN reach.
    """
    figure, panels = plt.subplots(len(tensors), 1, figsize=(8, 0.9 + 2.4 * len(tensors)), sharex=True, squeeze=False, layout="constrained")
    length = max(BINADES_SHOWN, *(len(profile) for _, profile in given))
    for axes, (name, tensor) in zip(panels[:, 0], tensors.items(), strict=True):
        magnitudes = np.abs(np.asarray(tensor, np.float64)).ravel()
        magnitudes = magnitudes[np.isfinite(magnitudes) & (magnitudes > 0)]
        exponents = np.frexp(magnitudes)[1] - 1
        below = exponents.max(initial=-1_000_000) - exponents
        places, total = -np.arange(length), max(1, len(below))
        axes.bar(places, 100 * np.bincount(below, minlength=length)[:length] / total, width=0.9, color="#BBBBBB", label="elements")
        energy = np.bincount(below, magnitudes**2, minlength=length)[:length]
        axes.bar(places, 100 * energy / max(energy.sum(), 1e-300), width=0.35, color="#555555", label="energy")
        axes.set_ylabel("share (%)")
        axes.set_title(name, fontsize=10, loc="left")
        bits = axes.twinx()
        for number, (format, profile) in enumerate(given):
            # Down to zero where the format ends; beside each other where they agree.
            edges = 0.5 - np.arange(len(profile) + 1)
            shift = 0.06 * (number - (len(given) - 1) / 2)
            line = ("-", "--", ":", "-.")[number % 4]
            bits.stairs(
                np.array(profile) + shift,
                edges,
                baseline=0,
                color=COLOURS[number % len(COLOURS)],
                linewidth=1.8,
                linestyle=line,
                label=format,
            )
        bits.set_ylim(0, 1.25 * max(max(profile) for _, profile in given))
        bits.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        bits.set_ylabel("significant bits")
        if axes is panels[0, 0]:
            handles = [part for side in (axes, bits) for part in side.get_legend_handles_labels()[0]]
            bits.legend(handles=handles, fontsize=8, frameon=False, loc="upper right", ncols=2)
    panels[-1, 0].set_xlim(0.7, 0.3 - length)
    panels[-1, 0].set_xlabel("binade, relative to that of the largest magnitude")
    figure.suptitle(title, fontsize=12)
    return figure


def layers(table: pd.DataFrame, title: str) -> Figure:
    """Angles of every layer as a heat map, layers downwards.

    table: of predictor.attribute (its kinds across, by the angle alone), or of predictor.measure with the scope layers (formats and effects across).
    Raises ValueError where it holds no layers.
    """
    if {"kind", "layer", "angle_alone"} <= set(table.columns):
        rows = table[table["layer"] != "all"]
        grid = rows.pivot(index="layer", columns="kind", values="angle_alone").loc[rows["layer"].unique()]
        grid = grid[[kind for kind in KINDS if kind in grid.columns]]
    elif {"format", "effect", "scope", "angle"} <= set(table.columns):
        rows = table[~table["scope"].isin(("all", "first"))]
        rows = rows.assign(column=rows["format"] + ", " + rows["effect"])
        grid = rows.pivot(index="scope", columns="column", values="angle")
        grid = grid.loc[rows["scope"].unique(), rows["column"].unique()]
    else:
        raise ValueError("angles by layer are drawn of what `formats attribute` or `formats measure --scope layers` wrote")
    if not grid.size:
        raise ValueError("the table holds no layer; measure with --scope layers")
    figure, axes = plt.subplots(figsize=(3.6 + 0.75 * len(grid.columns), 1.6 + 0.24 * len(grid)), layout="constrained")
    image = axes.imshow(grid.to_numpy(np.float64), cmap="viridis", aspect="auto", vmin=0)
    axes.set_xticks(
        range(len(grid.columns)), [str(column) for column in grid.columns], rotation=45 if len(grid.columns) > 4 else 0, fontsize=8
    )
    axes.set_yticks(range(len(grid)), [str(layer) for layer in grid.index], fontsize=8)
    largest = np.nanmax(grid.to_numpy(np.float64))
    for (row, column), angle in np.ndenumerate(grid.to_numpy(np.float64)):
        if angle == angle:
            axes.text(
                column, row, f"{angle:.3g}", ha="center", va="center", fontsize=7, color="black" if angle > 0.6 * largest else "white"
            )
    figure.colorbar(image, label="angle (degrees)", shrink=min(1.0, 6 / len(grid)) if len(grid) > 12 else 1)
    axes.set_title(title, fontsize=11)
    return figure


def top(table: pd.DataFrame, by: str, count: int, title: str) -> Figure:
    """The first `count` formats of a ranking or a search: angles with their 95% intervals, the first on top, ties on one grey band.

    Coloured by bits; of a search, by what a format is there for, so that synthesized ones stand beside the standard ones. Hollow marks are predicted.
    """
    rows = table.head(count)
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.26 * len(rows)), layout="constrained")
    searched = "role" in rows.columns
    groups = [
        str(role).split()[0].rstrip(",") if searched else bits
        for role, bits in zip(rows.get("role", rows["bits"]), rows["bits"], strict=True)
    ]
    names = list(dict.fromkeys(groups))
    labelled = set()
    for place, ((_, row), group) in enumerate(zip(rows.iterrows(), groups, strict=True)):
        colour, marker = (
            (COLOURS[names.index(group) % len(COLOURS)], "o") if searched else STYLE.get(-1 if pd.isna(group) else int(group), OTHER)
        )
        angle, low, high = (float(row[f"{column}_{by}"]) for column in ("angle", "low", "high"))
        label = str(group) if searched else "custom" if pd.isna(group) else f"{int(group)} bits"
        measured = row[f"source_{by}"] == "measured"
        if low == low:
            axes.plot([low, high], [place, place], color=colour, linewidth=1.2, alpha=0.8)
        axes.plot(
            angle, place, marker=marker, color=colour, markerfacecolor=colour if measured else "white", linestyle="none",
            label=None if label in labelled else label,
        )  # fmt: skip
        labelled.add(label)
    ranks = rows["rank"].tolist()
    for rank in dict.fromkeys(ranks):
        if ranks.count(rank) > 1:
            first = ranks.index(rank)
            axes.axhspan(first - 0.45, first + ranks.count(rank) - 0.55, color="#888888", alpha=0.15, linewidth=0)
    axes.set_yticks(range(len(rows)), [f"{name}   {rank}" for name, rank in zip(rows["name"], ranks, strict=True)], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set(xlabel=f"angle of {by} (degrees, with 95% interval); grey: ties; hollow: predicted", title=title)
    axes.grid(True, axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def pareto_front(table: pd.DataFrame, by: str, title: str) -> Figure:
    """Angle against the gates of a lane, coloured by bits, with the line of those that no other beats in both, which are labelled.

    table: of a ranking with the column `gates`; rows without angle or gates are left out.
    """
    rows = table[table["gates"].notna() & table[f"angle_{by}"].notna()].reset_index(drop=True)
    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    for bits in sorted(rows["bits"].unique(), reverse=True):
        colour, marker = STYLE.get(int(bits), OTHER)
        part = rows[rows["bits"] == bits]
        axes.scatter(
            part["gates"], part[f"angle_{by}"], s=18, marker=marker, color=colour, alpha=0.7, linewidths=0, label=f"{int(bits)} bits"
        )
    front = rows.loc[pareto(zip(rows[f"angle_{by}"], rows["gates"], strict=True))].sort_values("gates")
    axes.step(front["gates"], front[f"angle_{by}"], where="post", color="black", linewidth=1, label="no other is better in both")
    axes.set(xlabel="gates of a multiply-accumulate lane (NAND2 equivalents)", ylabel=f"angle of {by} (degrees)", yscale="log", title=title)
    log_axis(axes.yaxis)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    label_points(axes, front[["name", "gates", f"angle_{by}"]].itertuples(index=False))
    return figure


def profiles_of(names: Iterable[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Formats' names with their profiles; ValueError for none, and for one without a profile."""
    found = []
    for name in names:
        format = formats.get(name)
        profile = getattr(format, "profile", None)
        if not profile:
            raise ValueError(f"{name} has no precision profile to draw")
        found.append((format.name, tuple(profile)))
    if not found:
        raise ValueError("no format was given")
    return found


def columns_of(kind: str, by: str) -> tuple[str, ...]:
    """What a file must hold to be drawn so; ValueError for a kind that there is not."""
    angle = tuple(f"{column}_{by}" for column in ("angle", "low", "high", "source"))
    columns = {
        "angles": PLOT_COLUMNS,
        "top": ("rank", "name", "bits", *angle),
        "pareto": ("name", "bits", "gates", f"angle_{by}"),
        "layers": (),
    }
    if kind not in columns:
        raise ValueError(f"kind {kind!r}: allowed are {', '.join(columns)}")
    return columns[kind]


def of_result(table: pd.DataFrame, kind: str, name: str, by: str, count: int) -> Figure:
    """The figure of a table that holds `columns_of` its kind; name: of what is drawn. Raises ValueError for a count below 1."""
    if count < 1:
        raise ValueError(f"the first {count} formats: at least 1 is needed")
    if kind == "top":
        return top(table, by, count, f"{name}: the first {min(count, len(table))} of {len(table)} formats")
    if kind == "pareto":
        return pareto_front(table, by, f"{name}: angle of {by} against cost")
    if kind == "layers":
        return layers(table, f"{name}: angle by layer")
    return error_against_activation(table, f"{name}: {len(table)} formats")


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the form that the ending says, then close it."""
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=150))
    plt.close(figure)
