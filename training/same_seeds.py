"""Trainings of several formats or recipes from the same seeds, beside those of float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from formats.lookup import FULL_PRECISION
from numeric_formats.files import Held, check_same, read_json, write_json
from numeric_formats.progress import Progress, Report
from predictor.columns import GAP, PROJECTION
from predictor.scheme import with_all_parts
from training.loop import STEP
from training.result import Outcome, Result

CHOICE = "choice.json"


def _final_loss(result: Result) -> float:
    """The mean loss of the last epoch; infinite where the run diverged."""
    return float(result.epochs["loss"].iloc[-1]) if result.outcome is Outcome.FINISHED else np.inf


def fixed_choice(output: Path, settings: dict[str, Any]) -> None:
    """Write down what is to be trained before anything is; ValueError where the folder is of another choice."""
    path = output / CHOICE
    if not path.exists():
        write_json(path, settings)
    # What a scheme's parts together are called makes no difference.
    check_same(path, with_all_parts(read_json(path, "give another output")), settings, leaving_out=("scheme",))


def beside_full(results: Mapping[tuple[str, int], Result], name: str, seed: int) -> dict[str, Any]:
    """What a row says of one training: seed, outcome, loss, metric, full_loss (that of float32 from the same seed) and
    gap (loss over full_loss, less 1). results: by name and seed, float32's among them."""
    of = results[name, seed]
    loss, full = _final_loss(of), _final_loss(results[FULL_PRECISION, seed])
    return {
        "seed": seed,
        "outcome": of.outcome.value,
        "loss": loss,
        "metric": of.metric,
        "full_loss": full,
        GAP: loss / full - 1 if np.isfinite(full) else np.nan,
    }


def distance(column: str, values: pd.Series[float]) -> list[float]:
    """An indicator such that more is worse: of a projection, how far it is from 1."""
    return ((values - 1).abs() if column == PROJECTION else values).tolist()


def all_trained(
    units: Sequence[tuple[str, int]], one: Callable[[str, int, Report], Result], progress: Report
) -> dict[tuple[str, int], Result]:
    """The training of every format and seed; what another process is at comes last."""
    found: dict[tuple[str, int], Result] = {}
    waiting = list(units)
    while waiting:
        busy = []
        for name, seed in waiting:
            where = f"run {len(found) + 1}/{len(units)}, {name} seed {seed}"

            def show(at: Progress, where: str = where, before: int = len(found)) -> None:
                if at.stage != STEP:
                    return
                total = len(units) * at.total
                progress(Progress(STEP, before * at.total + at.done, total, f"{where}, {at.note}"))

            try:
                found[name, seed] = one(name, seed, show)
            except Held:
                busy.append((name, seed))
        waiting = busy
        if waiting:
            time.sleep(5)
    return found
