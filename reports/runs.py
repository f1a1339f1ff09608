"""Folders that training runs have written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from formats.lookup import FULL_PRECISION
from numeric_formats.messages import first_line
from numeric_formats.version import NAME
from training.log import STEPS
from training.loop import SETTINGS

FLIP_RATE = "flip_rate"
SAID = ("workload", "weight", "weight_rounding")
"""What the settings of every run say."""
NO_SETTING = ("seed", "threads", "versions", "torch", NAME, "checkpoint_every", "angle_every", "metric_every")
"""What is recorded of a run and makes no other setting of it."""


def _read(folder: Path, column: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Settings and steps of a run. Raises ValueError where there are none, or they are damaged."""
    for name in (SETTINGS, STEPS):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no {name}; a folder is needed that `formats train --output` has written, with a "
                "checkpoint"
            )
    try:
        settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
        if not isinstance(settings, dict):
            raise ValueError(f"{SETTINGS} holds no settings of a run")
        steps = pd.read_parquet(folder / STEPS)
        if column not in steps:
            raise ValueError(f"its {STEPS} has no {column}, which trainings of earlier versions did not write")
        steps = steps[["step", column]]
        if absent := [key for key in SAID if not isinstance(settings.get(key), str)]:
            raise ValueError(f"its {SETTINGS} says no {absent[0]}")
        method = settings.get("method")
        if method is not None:
            # What quantizes the weights; of several methods, the first is the one that does.
            settings["weight"] = (method[0] if isinstance(method, list) else method)["name"]
        elif settings["weight"] == FULL_PRECISION:
            raise ValueError(f"its weights are {FULL_PRECISION}, and nothing flips")
        steps = steps.dropna()
        if steps.empty:
            helps = "a method's are with --angle-every" if column == FLIP_RATE else "a method's are not"
            raise ValueError(f"its flips were not looked for; {helps}")
        return settings, steps
    except Exception as error:  # of a damaged file anything
        raise ValueError(f"run {folder} cannot be drawn: {first_line(error)}") from None


def read_flips(folders: Sequence[Path], column: str = FLIP_RATE) -> tuple[pd.DataFrame, list[str]]:
    """How many weights flipped in training runs.

    Args:
        folders: What `formats train --output` wrote.
        column: Of steps.parquet: flip_rate, or oscillation for those that flipped back.

    Returns:
        The share of quantized weights that changed, or flipped back, a row per step of each run, and the names of the
        workloads. Columns: setting (the weights' format, and what else tells runs of one format and rounding apart, but
        not the seed), rounding, run (its number in `folders`), step, and the one asked for.

    Raises:
        ValueError: A folder holds no run, or one without quantized weights.
    """
    runs = [_read(folder, column) for folder in folders]
    kept = [
        {key: str(value) for key, value in settings.items() if key not in NO_SETTING and not key.endswith("_digest")}
        for settings, _ in runs
    ]
    tables = []
    for number, (own, (_, steps)) in enumerate(zip(kept, runs, strict=True)):
        same = [other for other in kept if all(other[key] == own[key] for key in ("weight", "weight_rounding"))]
        differ = [key for key in own if any(other.get(key) != own[key] for other in same)]
        label = ", ".join([own["weight"], *(f"{key.replace('_', ' ')} {own[key]}" for key in differ)])
        tables.append(steps.assign(setting=label, rounding=own["weight_rounding"], run=number))
    return pd.concat(tables, ignore_index=True), list(dict.fromkeys(own["workload"] for own in kept))
