"""The trainings of a validation: put together by format, and read again to tell gaps from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from predictor.columns import GAP, NETWORK_NAME
from predictor.effects import Points
from predictor.risk import SCHEME, applies_to
from predictor.scheme import Scheme
from reports import results


def by_format(runs: pd.DataFrame) -> pd.DataFrame:
    """The trainings of each format together.

    Args:
        runs: `training.validation.Validation.runs`.

    Returns:
        A row per format, the smallest angle first: name, bits, angle, loss (mean of its seeds), loss_low, loss_high,
        gap (not a number in files from before there were gaps), metric, diverged (how many runs).
    """
    grouped = runs.assign(**{} if GAP in runs else {GAP: float("nan")}).groupby("name", sort=False)
    table = grouped.agg(
        bits=("bits", "first"),
        angle=("angle", "first"),
        loss=("loss", "mean"),
        loss_low=("loss", "min"),
        loss_high=("loss", "max"),
        gap=(GAP, "mean"),
        metric=("metric", "mean"),
        diverged=("outcome", lambda outcome: int((outcome == "diverged").sum())),
    )
    return table.sort_values("angle").reset_index()


def read_calibration(files: Iterable[Path]) -> pd.DataFrame | None:
    """The trainings of `runs.csv` files that `formats validate` wrote; None of no file.

    Raises:
        ValueError: A file has no gaps, or was trained by another scheme than the bundled
            trainings, or a single training has been read twice.
    """
    found = []
    for path in files:
        table = results.read(path, (NETWORK_NAME, "name", "seed", GAP))
        settings = results.sidecar(path).get("settings", {})
        if results.points_of(settings) is Points.OPERANDS:
            raise ValueError(f"{path}: trainings at operands; gaps are told from those of data flow")
        scheme = Scheme.recorded(settings)
        if scheme is not None and not applies_to(scheme):
            raise ValueError(
                f"{path}: trainings of scheme {scheme.name}; gaps are told from those of scheme {SCHEME.name}"
            )
        found.append(table)
    if not found:
        return None
    trainings = pd.concat(found)
    twice = trainings.duplicated([NETWORK_NAME, "name", "seed"])
    if twice.any():
        network, name, seed = trainings[twice].iloc[0][[NETWORK_NAME, "name", "seed"]]
        raise ValueError(f"the training of {name} from seed {seed} on {network} was given twice")
    return trainings
