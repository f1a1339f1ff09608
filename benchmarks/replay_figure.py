"""The front of what a ranking costs against how good it is, from what replay.py wrote, as a picture and in numbers.

python benchmarks/replay_figure.py benchmarks/replay.csv --figure docs/results/images/ranking_front.png
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from matplotlib.figure import Figure
from replay import CHOSEN_ON

PANELS = {
    "top": ("of the true first ten,\nties counted (worst replay)", "min"),
    "spearman": ("Spearman over 498\n(worst replay)", "min"),
    "coverage": ("95% intervals hold\n(worst replay)", "min"),
    "half_width": ("half-width of intervals,\nshare of the angle (mean)", "mean"),
}
MARKED = {"default": ("now", "#c0392b"), "before": ("before", "#2c3e50")}


def main(
    replays: Annotated[Path, typer.Argument(help="what replay.py wrote", exists=True)],
    figure: Annotated[Path, typer.Option(help="where the picture goes")],
) -> None:
    """Draw and print."""
    table = pd.read_csv(replays)
    of = table[(table.stage == "final") & (table.effect == "AE")]
    parts = {"chosen on two ResNet-20": of[of.network.isin(CHOSEN_ON)], "held out": of[~of.network.isin(CHOSEN_ON)]}
    drawn = Figure(figsize=(10, 6.4), layout="constrained")
    axes = drawn.subplots(2, 2, sharex=True).ravel()
    wanted = {"cost": "mean", "relative": "max"} | {column: how for column, (_, how) in PANELS.items()}
    for place, (name, rows) in enumerate(parts.items()):
        found = rows.groupby("policy").agg(wanted).sort_values("cost")
        print(f"{name}: cost in gradients, largest regret as a share, {', '.join(PANELS)}")
        print(found.round(3).to_string())
        for axis, column in zip(axes, PANELS, strict=True):
            label = f"{name}: {', '.join(sorted(set(rows.network)))}"
            axis.scatter(
                found.cost,
                found[column],
                s=22,
                c="#7f8c8d" if place else "#3b7dd8",
                marker="x" if place else "o",
                label=label,
            )
            for policy, (text, colour) in MARKED.items():
                x, y = found.loc[policy, "cost"], found.loc[policy, column]
                axis.scatter([x], [y], s=90, facecolors="none", edgecolors=colour, linewidths=1.5)
                if not place:
                    axis.annotate(text, (x, y), textcoords="offset points", xytext=(8, -12), color=colour)
    for axis, (text, _) in zip(axes, PANELS.values(), strict=True):
        axis.set_ylabel(text)
        axis.grid(alpha=0.3)
        axis.set_xlim(15, 155)
        axis.axvline(110, color="#bbbbbb", linestyle=":", linewidth=1)
    for axis in axes[2:]:
        axis.set_xlabel("full-precision gradients of a mini-batch of 64")
    axes[0].legend(loc="lower right", fontsize=8)
    drawn.suptitle("What a ranking by AE costs and how good it is: policies replayed")
    figure.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(figure, dpi=120)
    stages = table[table.policy == "default"].groupby(["effect", "network", "stage"])
    print("on the way, with the default policy:")
    print(stages[["cost", "relative", "spearman", "top", "coverage", "half_width"]].mean().round(3).to_string())


if __name__ == "__main__":
    typer.run(main)
