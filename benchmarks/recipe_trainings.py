"""Does a recipe's angle, projection or bias say how it trains? Recipes are trained on the bundled transformer.

    python benchmarks/recipe_trainings.py train              adds to benchmarks/validation/recipes.csv
    python benchmarks/recipe_trainings.py measure            writes benchmarks/validation/recipes_indicators.csv
    python benchmarks/recipe_trainings.py table              sets one against the other

Trainings are those of benchmarks/validation.py for its transformer, with operands of products rounded and all else
float32; float32 beside them from the same seeds. A training is a folder of --runs and goes on where it was ended; a row
is written once it is finished, seed by seed. What was expected: docs/results/recipes.md.
"""

import time
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import typer
from validation import HERE, RECIPES, workload_of, write

import formats
from formats.recipes.value import Recipe
from numeric_formats.files import Held
from predictor import measure_recipes
from predictor.statistics import agreement, reliability
from training import train
from training.result import Outcome
from workloads import Workload, load

NETWORK = "transformer"
FULL = "float32"
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

app = typer.Typer(add_completion=False)


def one(workload: Workload, recipe: Recipe | None, seed: int, runs: Path) -> dict[str, object]:
    """The row of one training; None for float32."""
    of, began = RECIPES[NETWORK], time.monotonic()
    name = FULL if recipe is None else recipe.name
    plain = dict.fromkeys(("activation", "error", "weight", "gradient", "master"), FULL) if recipe is None else {}
    found = train(
        workload,
        recipe=recipe,
        **plain,
        epochs=of.epochs,
        optimizer=of.optimizer,
        rate=of.rate,
        weight_decay=of.weight_decay,
        warmup=of.warmup,
        metric_every=of.epochs,
        seed=seed,
        output=runs / "recipes" / f"{name}-{seed}",
        resume=True,
    )
    losses = found.epochs["loss"].tolist()
    finished = found.outcome is Outcome.FINISHED
    return {
        "network": NETWORK,
        "name": name,
        "seed": seed,
        "outcome": found.outcome.value,
        "loss": losses[-1] if finished else float("inf"),
        "metric": found.metric,
        "losses": " ".join(f"{loss:.6g}" for loss in losses),
        "seconds": round(time.monotonic() - began, 1),
    }


@app.command("train")
def train_all(seeds: int = 3, runs: Path = Path("runs/validation")) -> None:
    """Train every recipe from every seed."""
    torch.set_num_threads(1)
    workload = workload_of(NETWORK)
    for recipes, seed in product(((None, *FIRST), SECOND), range(seeds)):
        for recipe in recipes:
            name = FULL if recipe is None else recipe.name
            known = pd.read_csv(PATH) if PATH.exists() else pd.DataFrame({"name": [], "seed": []})
            if ((known["name"] == name) & (known["seed"] == seed)).any():
                continue
            try:
                row = one(workload, recipe, seed, runs)
            except Held:
                continue  # another process is at it
            write(row, PATH)
            print(*(row[key] for key in ("name", "seed", "loss", "metric", "seconds")), flush=True)


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
    runs, measured = pd.read_csv(PATH), pd.read_csv(INDICATORS, index_col="name")
    full = runs[runs["name"] == FULL].set_index("seed")["loss"]
    rows = runs[(runs["name"] != FULL) & runs["seed"].isin(full.index)]
    rows = rows.assign(gap=rows["loss"].to_numpy() / full.loc[rows["seed"]].to_numpy() - 1)
    gaps = rows.pivot(index="name", columns="seed", values="gap").reindex(measured.index).dropna(axis=1)
    if not gaps.shape[1]:
        print("no seed has all recipes yet")
        return
    print(f"float32: loss {', '.join(f'{full.loc[seed]:.4f}' for seed in gaps)} from seeds {', '.join(map(str, gaps))}")
    print(f"{'recipe':16}{'gap, mean':>10}  {'by seed':>24}" + "".join(f"{name:>16}" for name in INDICATED))
    for name, of in gaps.assign(mean=gaps.mean(axis=1)).sort_values("mean").iterrows():
        each = " ".join(f"{of[seed]:+.2%}" for seed in gaps)
        print(
            f"{name:16}{of['mean']:+10.2%}  {each:>24}" + "".join(f"{measured[key][name]:16.4f}" for key in INDICATED)
        )
    kept = reliability(gaps.to_numpy()) if gaps.shape[1] > 1 else float("nan")
    print(f"{len(gaps)} recipes, {gaps.shape[1]} seeds; reliability of their mean {kept:.3f}")
    print(f"  {'number':16} {'Spearman':>8}  95%               {'Kendall':>7}  95%")
    by_seed = [of.tolist() for of in gaps.to_numpy()]
    for key in INDICATED:
        of = agreement(measured[key], by_seed)
        print(
            f"  {key:16} {of.spearman:8.3f}  {of.spearman_low:6.3f} to {of.spearman_high:6.3f}  "
            f"{of.kendall:7.3f}  {of.kendall_low:6.3f} to {of.kendall_high:6.3f}"
        )
    print("stochastic rounding of errors in the place of nearest, all else the same:")
    for nearest, random in ROUNDINGS:
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


if __name__ == "__main__":
    app()
