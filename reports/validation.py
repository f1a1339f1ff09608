"""What a validation shows: final loss against angle, as a table and in a sentence; reports/plots/training.py draws
it."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.table import Table

from reports.tables import plain


def by_format(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per format, the smallest angle first: name, bits, angle, loss (mean of its seeds), loss_low, loss_high,
    metric, diverged (how many runs)."""
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
        return [
            row.name,
            str(row.bits),
            f"{row.angle:.2f}",
            f"{row.loss:.4f}",
            f"{row.loss_low:.4f} to {row.loss_high:.4f}",
            metric,
        ]

    return plain(title, headers, [cells(row) for row in by_format(runs).itertuples(index=False)])


def sentence(agreement: Any, effect: str) -> str:
    """The rank correlations of a validation in words."""
    return f"angle ({effect}) against final loss over {agreement.formats} formats: {correlations(agreement)}"


def correlations(agreement: Any) -> str:
    """The numbers of a `predictor.statistics.Agreement`."""
    return (
        f"Spearman {agreement.spearman:.3f} "
        f"({agreement.spearman_low:.3f} to {agreement.spearman_high:.3f}), Kendall {agreement.kendall:.3f} "
        f"({agreement.kendall_low:.3f} to {agreement.kendall_high:.3f}); 95% bootstrap intervals"
    )
