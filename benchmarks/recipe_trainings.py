"""Does a recipe's angle, projection or bias say how it trains? Recipes are trained on the bundled transformer.

    python benchmarks/recipe_trainings.py train              adds to benchmarks/validation/recipes.csv
    python benchmarks/recipe_trainings.py measure            writes benchmarks/validation/recipes_indicators.csv
    python benchmarks/recipe_trainings.py table              sets one against the other

Trainings are those of benchmarks/validation.py for its transformer, with operands of products rounded and all else
float32; float32 beside them from the same seeds. A training is a folder of --runs and goes on where it was ended; a row
is written once it is finished, seed by seed. What was expected: docs/results/recipes.md.
"""

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import typer
from validation import FULL, HERE, PLAIN, RECIPES, add, print_agreements, training_gaps, workload_of

import formats
from formats.recipes.value import Recipe
from predictor import measure_recipes
from predictor.statistics import rank_correlations, reliability, resamples
from workloads import load

NETWORK = "transformer"
PATH, INDICATORS = HERE / "recipes.csv", HERE / "recipes_indicators.csv"
STOCHASTIC = {"rounding": {"dy": "stochastic"}}
OF_ERRORS = {"dgrad": STOCHASTIC, "wgrad": STOCHASTIC}


def stochastic(name: str, base: str | Recipe) -> Recipe:
    """A recipe with its errors rounded stochastically."""
    return formats.recipe(name, base=base, **OF_ERRORS)


def errors(name: str, format: str) -> Recipe:
    """A recipe that rounds errors alone."""
    return formats.recipe(name, dy=format)


FIRST = (
    *map(formats.recipe, ("mxfp4", "nvfp4-2d", "nvfp4-2d-sr")),
    errors("errors-log4", "LOG4"),
    stochastic("errors-log4-sr", errors("errors-log4", "LOG4")),
    *map(formats.recipe, ("mxfp8", "mxfp6-e3m2", "fp8-tensor")),
)
"""Those that are trained from every seed before the others are."""
SECOND = (formats.recipe("bf16"), stochastic("mxfp4-sr", "mxfp4"), formats.recipe("nvfp4"))
RECIPES_TRAINED = (*FIRST, *SECOND)
ROUNDINGS = (("nvfp4-2d", "nvfp4-2d-sr"), ("mxfp4", "mxfp4-sr"), ("errors-log4", "errors-log4-sr"))
INDICATED = ("angle_of_mean", "angle", "1 - projection", "bias", "loss")
COMBINED = {"distance of mean": "angle_of_mean", "distance": "angle"}
"""|g_q - g| / |g| from the projection and an angle."""

app = typer.Typer(add_completion=False)


@app.command("train")
def train_all(seeds: int = 3, runs: Path = Path("runs/validation")) -> None:
    """Train every recipe from every seed."""
    torch.set_num_threads(1)
    workload = workload_of(NETWORK)
    for recipes, seed in product(((None, *FIRST), SECOND), range(seeds)):
        for recipe in recipes:
            name, given = (FULL, PLAIN) if recipe is None else (recipe.name, {"recipe": recipe})
            add(PATH, workload, NETWORK, name, seed, runs / "recipes", **given)


@app.command()
def measure(minibatches: int = 8) -> None:
    """Measure the recipes on the pretrained network, on as many examples a mini-batch as they are trained on."""
    torch.set_num_threads(1)
    table = measure_recipes(
        load(NETWORK), RECIPES_TRAINED, minibatches, batch_size=RECIPES[NETWORK].batch_size, draws=4
    ).set_index("recipe")
    table["1 - projection"] = 1 - table["projection"]
    found = table.loc[[recipe.name for recipe in RECIPES_TRAINED], [*INDICATED, "length_ratio"]]
    found.round(6).rename_axis("name").to_csv(INDICATORS)
    print(found.to_string())


@app.command()
def table() -> None:
    """How well each number of the recipes orders their gaps, and what stochastic rounding does to both."""
    measured = pd.read_csv(INDICATORS, index_col="name")
    full = pd.read_csv(PATH).query("name == @FULL").set_index("seed")["loss"]
    every = training_gaps(PATH).pivot(index="name", columns="seed", values="gap").reindex(measured.index)
    gaps = every.dropna()
    left = ", ".join(f"{name} ({int(of.notna().sum())} seeds)" for name, of in every.iterrows() if of.isna().any())
    if left:
        print(f"left out, since not trained from every seed: {left}")
    print(f"float32: loss {', '.join(f'{full.loc[seed]:.4f}' for seed in gaps)} from seeds {', '.join(map(str, gaps))}")
    print(f"{'recipe':16}{'gap, mean':>10}  {'by seed':>24}" + "".join(f"{name:>16}" for name in INDICATED))
    for name, of in gaps.assign(mean=gaps.mean(axis=1)).sort_values("mean").iterrows():
        each = " ".join(f"{of[seed]:+.2%}" for seed in gaps)
        print(
            f"{name:16}{of['mean']:+10.2%}  {each:>24}" + "".join(f"{measured[key][name]:16.4f}" for key in INDICATED)
        )
    kept = reliability(gaps.to_numpy()) if gaps.shape[1] > 1 else float("nan")
    print(f"{len(gaps)} recipes, {gaps.shape[1]} seeds; reliability of their mean {kept:.3f}")
    candidates = measured[list(INDICATED)].copy()
    for name, angle in COMBINED.items():
        projection = 1 - measured["1 - projection"]
        across = projection * np.tan(np.radians(measured[angle]))
        candidates[name] = np.hypot(1 - projection, across)
    looks = print_agreements(candidates, gaps)
    print_differences(candidates, gaps, looks)
    whole = [name for name in gaps.index if not name.startswith("errors-")]
    mean = gaps.loc[whole].mean(axis=1).to_numpy()
    found = {name: rank_correlations(of[whole].to_numpy(), mean)[0] for name, of in candidates.items()}
    said = ", ".join(f"{name} {spearman:.3f}" for name, spearman in found.items())
    print(f"without those that round errors alone, {len(whole)} recipes, Spearman: {said}")
    print("stochastic rounding of errors in the place of nearest, all else the same:")
    for nearest, random in ROUNDINGS:
        if not {nearest, random} <= set(gaps.index):
            continue
        change = gaps.loc[random] - gaps.loc[nearest]
        said = ", ".join(f"{key} {measured[key][nearest]:.3f} -> {measured[key][random]:.3f}" for key in INDICATED)
        print(f"  {nearest}: gap {' '.join(f'{each:+.2%}' for each in change)} by seed; {said}")
    wrong = {key: [] for key in INDICATED}
    for one_name, other in combinations(gaps.index, 2):
        differences = gaps.loc[one_name] - gaps.loc[other]
        if not (np.all(differences > 0) or np.all(differences < 0)):
            continue  # the seeds themselves do not agree
        for key in INDICATED:
            if (measured[key][one_name] - measured[key][other]) * differences.mean() < 0:
                wrong[key].append(f"{one_name} and {other}")
    print("pairs that all seeds order alike and the number orders the other way:")
    for key, pairs in wrong.items():
        print(f"  {key}: {len(pairs)}" + (f" ({'; '.join(pairs)})" if pairs else ""))


def print_differences(candidates: pd.DataFrame, gaps: pd.DataFrame, looks: int) -> None:
    """By how much the first in Spearman is ahead of each other, from recipes, and of each its seeds, drawn again, with
    intervals for as many looks as there are candidates."""
    values, losses = candidates.loc[gaps.index].to_numpy().T, gaps.to_numpy()
    found = [rank_correlations(of, losses.mean(1))[0] for of in values]
    best = int(np.argmax(found))
    drawn = [[rank_correlations(of[rows], means)[0] for of in values] for rows, means in resamples(losses, 0)]
    ends = 100 * 0.05 / looks / 2
    print(f"{candidates.columns[best]} less each other, Spearman; intervals of 1 - 0.05/{looks}, for {looks} looks:")
    for place, name in enumerate(candidates.columns):
        if place != best:
            apart = np.array(drawn)[:, best] - np.array(drawn)[:, place]
            low, high = np.nanpercentile(apart, [ends, 100 - ends])
            print(f"  {name:28} {found[best] - found[place]:8.3f}  {low:6.3f} to {high:6.3f}")


if __name__ == "__main__":
    app()
