"""Do the numbers of a table of recipes predict how they train? Each is trained from the same seeds, and float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from formats.lookup import FULL_PRECISION
from formats.recipes.reading import recipe, recipe_without_files
from formats.recipes.value import Recipe
from numeric_formats.checks import at_least
from numeric_formats.progress import Report, quiet
from predictor.columns import ANGLE, ANGLE_OF_MEAN, BIAS, GAP, LOSS_RISE, NETWORK_NAME, PROJECTION, RANK, RECIPE
from predictor.measuring.store import Store
from predictor.statistics import Agreement, agreement, reliability
from training.arguments import train
from training.result import Result
from training.same_seeds import all_trained, beside_full, distance, fixed_choice
from training.settings import TrainingKeywords
from workloads.workload import Workload

ADDED_LOSS = "added_loss"
"""The loss that a recipe adds on the pretrained network, beside the final losses of trainings."""
INDICATORS = {ANGLE_OF_MEAN: ANGLE_OF_MEAN, ANGLE: ANGLE, PROJECTION: PROJECTION, BIAS: BIAS, LOSS_RISE: ADDED_LOSS}
"""What a table says of each recipe, and how it is called beside trainings."""
FEWEST = 3
"""Recipes that a correlation takes."""


@dataclass(frozen=True)
class RecipeValidation:
    """What a validation of recipes gave.

    Attributes:
        runs: A row per training: network, recipe, seed, outcome, loss (mean of the last epoch's training loss, infinite
            where the run diverged), metric, full_loss (that of float32 from the same seed), gap (loss over full_loss,
            less 1), and the recipe's angle_of_mean, angle, projection, bias and added_loss as the table has them.
        agreements: Of each of these and the mean gap, by name; of a projection its distance from 1.
        reliability: Of the mean gap over seeds (`predictor.statistics.reliability`).
        settings: Plain values.
        coverage: How much of the network recipes cover, in lines.
    """

    runs: pd.DataFrame
    agreements: dict[str, Agreement]
    reliability: float
    settings: dict[str, Any]
    coverage: tuple[str, ...]


def validate_recipes(
    workload: Workload,
    table: pd.DataFrame,
    *,
    output: Path | str,
    recipes: Sequence[str | Recipe] = (),
    seeds: int = 2,
    epochs: int = 5,
    head: bool = False,
    exact: Sequence[str] = (),
    store: Store | None = None,
    progress: Report = quiet,
    **training: Unpack[TrainingKeywords],
) -> RecipeValidation:
    """Train the recipes of a table from the same seeds, and compare their final losses with what the table says.

    A finished training is not done again, one that was ended goes on, and one that another process is at is waited for,
    so several processes can share the work.

    Args:
        workload: What is trained.
        table: As `predictor.measure_recipes` gives it. Where its `attrs` have them, digests of recipes have to agree.
        output: A folder; every training has its own in it, and the choice is written there before the first.
        recipes: Recipes, or their files, for names of the table that are neither presets nor formats.
        seeds: Trainings of each recipe.
        epochs: Of each training.
        head: As for `predictor.measure_recipes`.
        exact: The same.
        store: As for `train`.
        progress: Called after every step.
        training: What else `training.train` takes.

    Returns:
        Every training, and how well each number and the gap agree.

    Raises:
        ValueError: For a table of fewer than three recipes, a name that says nothing, a recipe that is another one by
            now, and for a folder of another choice; and all that `train` raises.
    """
    at_least(f"{seeds} seeds", seeds)
    rows = table[table[RANK].notna()].set_index(RECIPE)
    if len(rows) < FEWEST:
        raise ValueError(f"the table has {len(rows)} recipes; {FEWEST} or more are needed")
    chosen = _recipes(list(rows.index), [recipe(each) for each in recipes], table.attrs.get("recipes", {}))
    output = Path(output)
    settings = {
        "workload": workload.name,
        "recipes": {name: one.digest for name, one in chosen.items()},
        "head": head,
        "exact": list(exact),
        "epochs": epochs,
        **training,
    }
    fixed_choice(output, settings)

    def trained_once(name: str, seed: int, report: Report) -> Result:
        how: dict[str, Any] = dict.fromkeys(("activation", "error", "weight", "gradient", "master"), FULL_PRECISION)
        if name in chosen:
            how = {"recipe": chosen[name], "head": head, "exact": exact}
        return train(
            workload,
            **how,
            epochs=epochs,
            seed=seed,
            output=output / f"{name.replace('/', '_')}-{seed}",
            resume=True,
            store=store,
            progress=report,
            **training,
        )

    # Seed by seed: whoever stops early has compared all recipes.
    units = [(name, seed) for seed in range(seeds) for name in (FULL_PRECISION, *chosen)]
    results = all_trained(units, trained_once, progress)
    made = [
        {NETWORK_NAME: workload.name, RECIPE: name, **beside_full(results, name, seed)}
        for name in chosen
        for seed in range(seeds)
    ]
    measured = rows[list(INDICATORS)].rename(columns=INDICATORS)
    runs = pd.DataFrame(made).join(measured, on=RECIPE)
    gaps = runs.pivot_table(index=RECIPE, columns="seed", values=GAP, sort=False, dropna=False).to_numpy()
    agreements = {
        name: agreement(distance(name, measured[name]), gaps.tolist())
        for name in INDICATORS.values()
        if measured[name].notna().all()
    }
    first = results[next(iter(chosen)), 0].coverage
    return RecipeValidation(runs, agreements, reliability(gaps), settings | {"seeds": seeds}, first)


def _recipes(names: Sequence[str], given: Sequence[Recipe], digests: dict[str, str]) -> dict[str, Recipe]:
    """The recipes of a table by name; ValueError where one cannot be told, or is another one than was measured."""
    own = {each.name: each for each in given}
    if unknown := own.keys() - set(names):
        raise ValueError(f"recipe {min(unknown)!r} is not in the table; it has {', '.join(names)}")
    found = {}
    for name in names:
        try:
            found[name] = own[name] if name in own else recipe_without_files(name)
        except ValueError:
            raise ValueError(
                f"recipe {name!r} of the table is neither a preset nor a format: give the recipe or its file too"
            ) from None
        if digests.get(name, found[name].digest) != found[name].digest:
            raise ValueError(f"recipe {name!r} is another one than was measured: measure it again, or give that one")
    return found
