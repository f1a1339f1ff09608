"""Plots of precision: formats' profiles, alone, over the tensors that they round, and beside the angles that they
have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

import formats
from predictor.columns import NAME, ROLE, difference_columns
from reports.plots.style import COLOURS, size

BINADES_SHOWN = 20
TENSORS_SHOWN = 12
FORMATS_SHOWN = 20
MADE, KNOWN = "#D55E00", "#0072B2"


def profiles_of(names: Iterable[str], *, files: bool = True) -> list[tuple[str, tuple[int, ...]]]:
    """Formats' names with their profiles.

    Args:
        names: Names, or files, as for `formats.get`.

    Returns:
        A pair for each format.

    Raises:
        ValueError: None was given, or one has no profile.
    """
    found = []
    for name in names:
        format = formats.get(name, files=files)
        profile = getattr(format, "profile", None)
        if not profile:
            raise ValueError(f"{name} has no precision profile to draw")
        found.append((format.name, tuple(profile)))
    if not found:
        raise ValueError("no format was given")
    return found


def profiles(given: Sequence[tuple[str, Sequence[int]]], title: str) -> Figure:
    """Significant bits against binade, a panel for every format, one below the other over the same binades.

    Args:
        given: Names and profiles.
        title: Above the picture.
    """
    figure, panels = plt.subplots(
        len(given),
        1,
        figsize=size(0.9 + 1.3 * len(given)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
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


def histograms(
    tensors: Mapping[str, NDArray[np.float32]], given: Sequence[tuple[str, Sequence[int]]], title: str
) -> Figure:
    """How tensors' elements lie over the binades below their largest magnitude, a panel each, with formats' precisions
    drawn over them.

    Wide bars are elements, narrow ones their energy (squared magnitude), which is what rounding noise is weighed
    against. Zeros and what is not finite count for nothing; so do binades further down than any profile and
    `BINADES_SHOWN` reach.

    Args:
        tensors: Arrays by name.
        given: Names and profiles, whose top is put on the tensor's.
        title: Above the picture.

    Raises:
        ValueError: There are more tensors than a picture holds.
    """
    if len(tensors) > TENSORS_SHOWN:
        raise ValueError(
            f"{len(tensors)} tensors: a picture holds at most {TENSORS_SHOWN}; `formats points --tensors` takes --layer"
        )
    figure, panels = plt.subplots(
        len(tensors), 1, figsize=size(0.9 + 2.4 * len(tensors)), sharex=True, squeeze=False, layout="constrained"
    )
    length = max(BINADES_SHOWN, *(len(profile) for _, profile in given))
    for axes, (name, tensor) in zip(panels[:, 0], tensors.items(), strict=True):
        magnitudes = np.abs(np.asarray(tensor, np.float64)).ravel()
        magnitudes = magnitudes[np.isfinite(magnitudes) & (magnitudes > 0)]
        exponents = np.frexp(magnitudes)[1] - 1
        below = exponents.max(initial=-1_000_000) - exponents
        places, total = -np.arange(length), max(1, len(below))
        axes.bar(
            places,
            100 * np.bincount(below, minlength=length)[:length] / total,
            width=0.9,
            color="#BBBBBB",
            label="elements",
        )
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
    panels[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1, 0].set_xlabel("binade, relative to that of the largest magnitude")
    figure.suptitle(title, fontsize=12)
    return figure


def synthesized(table: pd.DataFrame, by: str, title: str) -> Figure:
    """Synthesized formats beside the standard ones: significant bits in each binade, and in the same row how much
    smaller the angle is than the reference's.

    The first `FORMATS_SHOWN` of a search with one profile (pairs have two), the smallest angle on top; what was made is
    told from what was known by colour and mark. Differences are paired, with their 95% intervals.

    Args:
        table: The columns of a search.
        by: The effect whose angle is drawn.
        title: Above the picture.

    Raises:
        ValueError: Nothing is left to draw.
    """
    less, _, _ = difference_columns(by)
    single = table[~table[NAME].str.contains("+", regex=False) & table[less].notna()]
    rows = single.sort_values(less, kind="stable").head(FORMATS_SHOWN)
    if rows.empty:
        raise ValueError("the search holds no format with one profile and an angle")
    kept = [profile for _, profile in profiles_of(rows[NAME], files=False)]
    grid = np.full((len(rows), max(map(len, kept))), np.nan)
    for line, profile in zip(grid, kept, strict=True):
        line[: len(profile)] = profile
    figure, (cells, differences) = plt.subplots(
        1, 2, figsize=size(1.6 + 0.32 * len(rows), 10), sharey=True, width_ratios=(3, 2), layout="constrained"
    )
    # Light to dark blue, dark enough at the top for white digits.
    shades = ListedColormap(plt.get_cmap("Blues")(np.linspace(0.08, 0.9, 256)))
    cells.imshow(grid, cmap=shades, aspect="auto", vmin=1, vmax=max(8, np.nanmax(grid)))
    for (row, binade), bits in np.ndenumerate(grid):
        if bits == bits:
            cells.text(
                binade, row, f"{bits:.0f}", ha="center", va="center", fontsize=8, color="white" if bits > 5 else "black"
            )
    cells.set_xticks(
        range(0, grid.shape[1], 2), [f"−{binade}" if binade else "0" for binade in range(0, grid.shape[1], 2)]
    )
    cells.set_xlabel("significant bits in each binade, from the top exponent T down")
    # What has a name was known before, also where synthesis found it again.
    made = (rows[ROLE].str.contains("synthesized") & rows[NAME].str.startswith("profile:")).to_numpy()
    cells.set_yticks(
        range(len(rows)),
        _numbered([_short(name, role) for name, role in zip(rows[NAME], rows[ROLE], strict=True)]),
        fontsize=8,
    )
    for label, new in zip(cells.get_yticklabels(), made, strict=True):
        label.set_color(MADE if new else "black")
    cells.tick_params(length=0)
    cells.spines[:].set_visible(False)
    differences.axvline(0, color="black", linewidth=0.8)
    for own, colour, marker, label in (
        (True, MADE, "D", "synthesized for this network"),
        (False, KNOWN, "o", "known before"),
    ):
        part, places = rows[made == own], np.flatnonzero(made == own)
        middle, low, high = (part[column] for column in difference_columns(by))
        spread = [(middle - low).fillna(0), (high - middle).fillna(0)]
        differences.errorbar(
            middle, places, xerr=spread, fmt=marker, color=colour, markersize=5, linewidth=1, capsize=2, label=label
        )
    reference = rows.loc[rows[ROLE].str.contains("reference"), NAME].tolist()
    differences.set_xlabel(
        f"angle of {by} less that of {reference[0] if reference else 'the reference'} (degrees)", fontsize=9
    )
    differences.tick_params(axis="y", length=0)
    differences.grid(True, axis="x", linewidth=0.4, alpha=0.5)
    differences.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    figure.suptitle(title, fontsize=12)
    return figure


def _short(name: str, role: str) -> str:
    """A name that fits beside a row: a profile, which the row itself shows, is called after what it was made for."""
    made = [part for part in role.split(", ") if part.startswith("synthesized ")]
    return "made for " + " ".join(made[0].split()[1:]) if name.startswith("profile:") and made else name


def _numbered(names: Sequence[str]) -> list[str]:
    """Names, each its own: those that come more than once have a number."""
    counts = Counter(names)
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name}, {seen[name]}" if counts[name] > 1 else name)
    return found
