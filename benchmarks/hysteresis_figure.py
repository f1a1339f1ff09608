"""What each rounding of few-bit weights costs against float32, and how often it flips: one picture of the rows that
hysteresis_from_scratch.py wrote.

    python benchmarks/hysteresis_figure.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from hysteresis_from_scratch import MEANS, NONE
from matplotlib.figure import Figure

from predictor.statistics import interval

HERE = Path(__file__).parent
TABLES = {
    "12,800 images, 30 epochs": HERE / "hysteresis_from_scratch.csv",
    "1,280 images, 40 epochs": HERE / "hysteresis_few_images.csv",
}
TARGET = HERE.parent / "docs" / "results" / "images" / "few_bits.png"
COLOURS = dict(zip(MEANS, ("#2c3e50", "#c0392b", "#e67e22", "#27ae60", "#8e44ad", "#3b7dd8"), strict=True))


class Group(NamedTuple):
    """Runs that differ in their means and seed alone, and float32's beside them."""

    label: str
    runs: pd.DataFrame
    full: pd.DataFrame


def groups() -> Iterator[Group]:
    """All that there are, in the order of the tables."""
    for experiment, path in TABLES.items():
        table = pd.read_csv(path, keep_default_na=False, na_values=["nan", ""])
        floats = table[table.means == NONE].groupby(["network", "schedule"])
        rounded = table[table.means != NONE]
        for (network, weight, scheme, schedule), runs in rounded.groupby(["network", "weight", "scheme", "schedule"]):
            label = f"{network}, {weight}, {scheme}, {schedule}\n{experiment}"
            yield Group(label, runs, floats.get_group((network, schedule)))


def points(own: pd.DataFrame, full: pd.DataFrame) -> tuple[float, float, float]:
    """Mean and 95% t-interval of the test accuracy less float32's from the same seed, in points."""
    both = own.set_index("seed").metric.to_frame("own").join(full.set_index("seed").metric, how="inner")
    return interval(100 * (both.own - both.metric).to_numpy())


def main() -> None:
    """Draw."""
    rows = list(groups())
    drawn = Figure(figsize=(10, 1.4 + 0.55 * len(rows)), layout="constrained")
    left, right = drawn.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, group in enumerate(rows):
        for means, own in group.runs.groupby("means"):
            mean, low, high = points(own, group.full)
            y = place + 0.13 * (list(MEANS).index(means) - 2.5)
            left.errorbar(mean, y, xerr=[[mean - low], [high - mean]], fmt="o", ms=4, lw=1, color=COLOURS[means])
            right.plot(100 * own.flips.mean(), y, "o", ms=4, color=COLOURS[means])
    for means, colour in COLOURS.items():
        right.plot([], [], "o", color=colour, label=means)
    left.axvline(0, color="#888888", linewidth=1)
    left.set_yticks(range(len(rows)), [group.label for group in rows], fontsize=7)
    left.invert_yaxis()
    left.set_xlabel("test accuracy less float32's of the same seed, points\n(mean and 95% interval; right is better)")
    right.set_xscale("log")
    right.set_xlabel("weights that flip in a step\n(mean over a run, %)")
    right.xaxis.set_major_formatter("{x:g}")
    drawn.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=len(COLOURS), fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(TARGET, dpi=120)


if __name__ == "__main__":
    main()
