"""What all plots share: colours that colour-blind readers can tell apart, axes, names beside points, and writing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from numeric_formats.files import write_atomically
from reports.sources import Source

# Names are text: a dollar in one begins no formula.
plt.rcParams["text.parse_math"] = False

ENDINGS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours; shapes say the same again.
STYLE = {8: ("#0072B2", "o"), 7: ("#E69F00", "s"), 6: ("#009E73", "^")}
"""Of the widths of the catalogue, as pages have them too."""
RARER = {
    **{16: ("#000000", "h"), 5: ("#CC79A7", "v"), 4: ("#D55E00", "P")},
    **{3: ("#56B4E9", "X"), 2: ("#8B5A2B", "p")},
}
OTHER = ("#555555", "D")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def style_of(bits: int) -> tuple[str, str]:
    """The colour and mark of a width."""
    return (STYLE | RARER).get(bits, OTHER)


FILLS = {Source.MEASURED: 1.0, Source.PARTLY: 0.35, Source.PREDICTED: 0.0}
"""How much of its colour fills a mark: the better an angle was measured, the more."""


def fill(colour: str, source: Source) -> tuple[float, ...]:
    """The colour inside a mark or bar of an angle that was found so: its own, a pale one, or white."""
    return tuple(1 - FILLS[source] * (1 - part) for part in to_rgb(colour))


def keys(axes: Any, groups: Mapping[str, tuple[str, str]], sources: Collection[Source]) -> None:
    """Entries of a legend: each group with its colour and mark, and, where not all is measured, what fills mean."""
    how: dict[str, Any] = {"linestyle": "none", "markersize": 5}
    for label, (colour, marker) in groups.items():
        axes.plot([], [], marker=marker, color=colour, label=label, **how)
    for source in Source if set(sources) - {Source.MEASURED} else ():
        if source in sources:
            axes.plot([], [], marker="o", color=OTHER[0], markerfacecolor=fill(OTHER[0], source), label=source, **how)


USUAL_WIDTH = 8.0
"""Inches that pictures are wide where nobody says another width."""
NARROW = 0.7
"""Pictures of a smaller share of it have their words made to fit."""
NARROW_COLUMNS, NARROW_ROW = 2, 48
"""Of legends in them: columns, or all in one row where it has no more characters, marks counted."""
_width = [USUAL_WIDTH]


@contextmanager
def width_of(inches: float | None) -> Iterator[None]:
    """Pictures that are begun inside are this wide, such as a paper's column; their letters stay as large."""
    _width.append(USUAL_WIDTH if inches is None else inches)
    try:
        yield
    finally:
        _width.pop()


def share() -> float:
    """Of its usual width, what a picture that is begun now has."""
    return _width[-1] / USUAL_WIDTH


def fitted(figure: Figure) -> Figure:
    """A picture narrower than usual, with its words made to fit: axes say what they show and no more, titles and
    legends leave out what comes after a comma or colon, in smaller letters."""
    if share() >= NARROW:
        return figure
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_label_text(re.split("[;:]|, with", axis.get_label_text())[0], fontsize=8)
            axis.set_tick_params(labelsize=7)
        axes.title.set(text=axes.get_title().partition(",")[0], fontsize=8)
    for legend in (*(axes.get_legend() for axes in figure.axes), *figure.legends):
        for text in () if legend is None else legend.get_texts():
            text.set_text(text.get_text().partition(":")[0])
            text.set_fontsize(6)
    return figure


def legend(axes: Any, columns: int = 1, **place: Any) -> None:
    """A legend at a place of the axes; in a picture narrower than usual in rows below them, where its width takes
    nothing from theirs and no mark lies under it."""
    if share() >= NARROW:
        axes.legend(fontsize=8, frameon=False, ncols=columns, **place)
        return
    labels = axes.get_legend_handles_labels()[1]
    row = len(labels) if sum(map(len, labels)) + 4 * len(labels) <= NARROW_ROW else NARROW_COLUMNS
    axes.figure.legend(fontsize=6, frameon=False, loc="outside lower center", ncols=max(1, row), columnspacing=1)


def titled(axes: Any, title: str, columns: int) -> None:
    """A title, and below it a legend above the axes, where no mark can lie under it."""
    legend(axes, columns, loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.set_title(title, pad=24 if share() >= NARROW else None)


def size(height: float, width: float = USUAL_WIDTH) -> tuple[float, float]:
    """The size of a picture that is usually so high and wide, in inches: narrower ones are lower, but less so."""
    return width * share(), height * share() ** 0.5


def untitled(figure: Figure) -> Figure:
    """The picture without what stands above it, for a paper that has a caption."""
    figure.suptitle("")
    if len(figure.axes) and not any(axes.get_title(loc="left") for axes in figure.axes):
        figure.axes[0].set_title("")
    return figure


def log_axis(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


MARK = 4
"""Half the width of a mark, in pixels of the drawing."""
APART, ON_LEGEND = 3, 4
"""Pixels between two names; how many hidden marks a name on the legend is as bad as."""
PLACES = [
    (x, y, "left" if x > 0 else "right")
    for near, far in ((6, 5), (12, 16), (18, 28), (30, 3), (24, 42))
    for x in (near, -near)
    for y in (far, -far - 7)
]
"""Where a name may stand, in points from its mark: nearest first, the side at which the text ends."""


def label_points(
    axes: Any, points: Iterable[tuple[str, float, float]], marks: ArrayLike = (), first: Collection[str] = ()
) -> None:
    """Names beside their points (name, x, y), where they hide fewest marks, on the legend only where other places are
    worse; left out where one would touch another name or leave the axes.

    marks: (n, 2), data coordinates of what is drawn besides the points. first: names that get their places before the
    others.
    """
    axes.figure.canvas.draw()
    renderer = axes.figure.canvas.get_renderer()
    named = sorted(points, key=lambda point: (point[0] not in first, point[1]))
    every = [(x, y) for _, x, y in named] + [tuple(mark) for mark in np.asarray(marks, np.float64).reshape(-1, 2)]
    seen = axes.transData.transform(every) if every else np.empty((0, 2))
    frame = axes.get_window_extent()
    shown = axes.get_legend()
    legend = None if shown is None else shown.get_window_extent(renderer)
    taken: list[Any] = []
    for name, x, y in named:
        best: tuple[int, Any, Any] | None = None
        for dx, dy, side in PLACES:
            text = axes.annotate(
                name,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=side,
                fontsize=8,
                zorder=6,
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
                arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": "#555555", "shrinkA": 0, "shrinkB": 2},
            )
            text.update_positions(renderer)
            place = Text.get_window_extent(text)  # without the line to the mark
            inside = (
                frame.containsx(place.x0)
                and frame.containsx(place.x1)
                and frame.containsy(place.y0)
                and frame.containsy(place.y1)
            )
            under = 0 if legend is None or not place.overlaps(legend) else ON_LEGEND
            hidden = under + int(
                ((seen > np.array(place.min) - MARK) & (seen < np.array(place.max) + MARK)).all(1).sum()
            )
            if (
                not inside
                or any(place.padded(APART).overlaps(other) for other in taken)
                or (best is not None and best[0] <= hidden)
            ):
                text.remove()
                continue
            if best is not None:
                best[1].remove()
            best = (hidden, text, place)
            if not hidden:
                break
        if best is not None:
            taken.append(best[2])


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the form that the ending says, then close it."""
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=150))
    plt.close(figure)
