"""The trainings of a validation, put together by format."""

from __future__ import annotations

import pandas as pd


def by_format(runs: pd.DataFrame) -> pd.DataFrame:
    """The trainings of each format together.

    Args:
        runs: `training.validation.Validation.runs`.

    Returns:
        A row per format, the smallest angle first: name, bits, angle, loss (mean of its seeds), loss_low, loss_high,
        metric, diverged (how many runs).
    """
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
