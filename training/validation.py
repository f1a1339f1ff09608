"""Does the angle predict training? Formats from all over a ranking are trained, and final losses are set against
angles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numeric_formats.files import Held, check_same, read_json, write_json
from predictor.statistics import Agreement, agreement
from training.scheme import FULL_PRECISION
from training.train import Outcome, Progress, Result, train
from workloads.workload import Workload

CHOICE = "choice.json"
SAME = "same"


def spread(ranking: pd.DataFrame, count: int, effect: str = "AE") -> list[str]:
    """Names of `count` formats from all over a ranking, shared evenly among its bit widths, narrow ones first.

    ranking: a row per format with name, bits and angle_<effect>. Of each width, the smallest and the largest angle are
    taken, and between them those next to even steps of the angle's logarithm, so that all sizes of angle are there,
    crowded or not; nothing but the ranking decides. Raises ValueError where the ranking has too few, or no such angle.
    """
    column = f"angle_{effect}"
    if column not in ranking:
        known = ", ".join(str(name).removeprefix("angle_") for name in ranking if str(name).startswith("angle_"))
        raise ValueError(f"the ranking has no angle of effect {effect!r}; it has {known or 'none'}")
    if not 3 <= count <= len(ranking):
        raise ValueError(f"{count} formats were asked for; a ranking of {len(ranking)} allows 3 to {len(ranking)}")
    names: list[str] = []
    widths = sorted(ranking["bits"].unique())
    for number, bits in enumerate(widths):
        share = (count - len(names)) // (len(widths) - number)
        of_width = ranking[ranking["bits"] == bits].sort_values([column, "name"])
        share, left = min(share, len(of_width)), np.log(np.maximum(of_width[column].to_numpy(np.float64), 1e-9))
        for target in np.linspace(left[0], left[-1], share):
            place = int(np.abs(left - target).argmin())
            names.append(str(of_width["name"].iloc[place]))
            left[place] = np.inf  # taken
    if len(names) < count:
        raise ValueError(
            f"{count} formats were asked for; shared among {len(widths)} bit widths, the ranking gives {len(names)}"
        )
    return names


@dataclass(frozen=True)
class Validation:
    """What a validation gave.

    runs: a row per training: name, bits, angle (degrees), seed, outcome, loss (mean of the last epoch's training loss,
    infinite where the run diverged), metric. agreement: of angle and loss. settings: plain values.
    """

    runs: pd.DataFrame
    agreement: Agreement
    settings: dict[str, Any]


@dataclass(frozen=True)
class At:
    """Where a validation is: which training of how many, its format and seed, and where that one is."""

    run: int
    runs: int
    name: str
    seed: int
    training: Progress


def _loss(result: Result) -> float:
    return float(result.epochs["loss"].iloc[-1]) if result.outcome is Outcome.FINISHED else np.inf


def _fixed_choice(output: Path, settings: dict[str, Any]) -> None:
    """Write down what is to be trained before anything is; ValueError where the folder is of another choice."""
    path = output / CHOICE
    if not path.exists():
        write_json(path, settings)
    check_same(path, read_json(path, "give another output"), settings)


def validate(
    workload: Workload,
    ranking: pd.DataFrame,
    *,
    output: Path | str,
    count: int = 24,
    formats: Iterable[str] = (),
    seeds: int = 2,
    effect: str = "AE",
    weight: str = FULL_PRECISION,
    gradient: str = FULL_PRECISION,
    master: str = FULL_PRECISION,
    epochs: int = 5,
    progress: Callable[[At], None] | None = None,
    **recipe: Any,
) -> Validation:
    """Train formats from all over a ranking from the same seeds, and compare their final losses with their angles.

    ranking: as `search.stages` gives it: a row per format with name, bits and angle_<effect>. count: how many formats
    `spread` takes; formats: names to be trained beside them. Each is the format of activations and errors, which is
    what the angle is about; weight, gradient, master: the formats of the rest, by default in full precision; "same" for
    the one under test. output: a folder; every training has its own in it, and the choice is written there before the
    first. A finished training is not done again, one that was ended goes on, and one that another process is at is
    waited for, so several processes can share the work. recipe: what `training.train` takes.

    Raises ValueError for a ranking that lacks a format or angle, and for a folder of another choice; and all that
    `train` raises.
    """
    output = Path(output)
    chosen = spread(ranking, count, effect)
    angles = dict(zip(ranking["name"], ranking[f"angle_{effect}"], strict=True))
    widths = dict(zip(ranking["name"], ranking["bits"], strict=True))
    for name in formats:
        if name not in angles:
            raise ValueError(f"format {name!r} is not in the ranking")
        chosen += [name] if name not in chosen else []
    others = {"weight": weight, "gradient": gradient, "master": master}
    settings = {"workload": workload.name, "formats": chosen, "effect": effect, **others, "epochs": epochs, **recipe}
    _fixed_choice(output, settings)
    # Seed by seed: whoever stops early has compared all formats.
    waiting = [(name, seed) for seed in range(seeds) for name in chosen]
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    while waiting:
        busy = []
        for name, seed in waiting:

            def show(training: Progress, name: str = name, seed: int = seed) -> None:
                if progress is not None:
                    progress(At(len(rows) + 1, seeds * len(chosen), name, seed, training))

            try:
                result = train(
                    workload,
                    activation=name,
                    error=name,
                    **{role: name if given == SAME else given for role, given in others.items()},  # type: ignore[arg-type]
                    epochs=epochs,
                    seed=seed,
                    output=output / f"{name}-{seed}",
                    resume=True,
                    progress=show,
                    **recipe,
                )
            except Held:
                busy.append((name, seed))
                continue
            rows[name, seed] = {
                "name": name,
                "bits": int(widths[name]),
                "angle": float(angles[name]),
                "seed": seed,
                "outcome": result.outcome.value,
                "loss": _loss(result),
                "metric": result.metric,
            }
        waiting = busy
        if waiting:
            time.sleep(5)
    runs = pd.DataFrame([rows[name, seed] for name in chosen for seed in range(seeds)])
    grouped = runs.groupby("name", sort=False)
    found = agreement(grouped["angle"].first().tolist(), [group.tolist() for _, group in grouped["loss"]])
    return Validation(runs, found, settings | {"seeds": seeds})
