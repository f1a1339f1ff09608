"""Recipes: a list of them, one as a table, and what was measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from formats.recipes.value import OPERANDS, Product, Recipe, history_in_words
from reports.tables.layout import Part, plain

if TYPE_CHECKING:
    import pandas as pd

    from formats.recipes.presets import Preset
    from predictor.recipe_angles import RecipesEstimate
    from training.recipe_validation import RecipeValidation

LISTED = [(name, "left") for name in ("recipe", "x", "w", "dy", "whose")]


def _also(row: Preset) -> str:
    """What a preset says beside its formats, in words."""
    parts = []
    for product in Product:
        own = row.also.get(product, {})
        formats = [f"{operand} {own[operand]}" for operand in OPERANDS[product] if operand in own]
        roundings = [f"{operand} {rounding}" for operand, rounding in own.get("rounding", {}).items()]
        transform = [f"hadamard {own['hadamard']}"] if "hadamard" in own else []
        if said := [*formats, *roundings, *transform]:
            parts.append(f"{product}: {', '.join(said)}")
    return "; ".join([*parts, *(["delayed scales"] if "history" in row.also else [])])


def presets(rows: Sequence[Preset]) -> list[Part]:
    """The recipes that have a name."""
    cells = [[row.name, row.x, row.w, row.dy, row.whose] for row in rows]
    others = [f"{row.name}: {said}" for row in rows if (said := _also(row))]
    count = f"{len(rows)} recipes; a format stands for all operands, and FILE.toml for more"
    return [plain(None, LISTED, cells), *others, count]


def recipe(found: Recipe) -> list[Part]:
    """Each operand of each product, and what holds for all."""
    rows = []
    for product in Product:
        of = found.of(product)
        for operand, each in zip(OPERANDS[product], of, strict=True):
            transform = f"hadamard {of.hadamard}" if of.hadamard else ""
            rows.append([product.value, operand.value, each.name, each.rounding.value, transform])
    headers = [(name, "left") for name in ("product", "operand", "format", "rounding", "transform")]
    elsewhere = "float32" if found.elsewhere is None else found.elsewhere.name
    return [
        plain(found.name, headers, rows),
        f"between the products: {elsewhere}; scales: {history_in_words(found.history)}; digest {found.digest}",
    ]


def estimate(model: str, of: RecipesEstimate) -> str:
    """What a comparison would take."""
    from rich.filesize import decimal

    memory = of.memory
    sizes = {
        "weights": memory.weights,
        "full-precision gradients": memory.gradients,
        "activations": memory.activations,
        "what is at hand": memory.at_hand,
    }
    parts = ", ".join(f"{name} {decimal(size)}" for name, size in sizes.items())
    time = "more memory than is free" if of.seconds is None else f"about {of.seconds / 60:.1f} minutes"
    return (
        f"{model}: {of.recipes} recipes, {of.products} products with {100 * of.share:.1f}% of the "
        f"multiply-accumulates; {of.gradients} gradients on {of.minibatches} mini-batches; {time}\n"
        f"memory at the peak: {decimal(memory.total)}, of which {parts}"
    )


def measured(table: pd.DataFrame) -> list[Part]:
    """What `predictor.measure_recipes` gave."""
    import pandas as pd

    from predictor.columns import (
        ALL,
        ANGLE,
        ANGLE_OF_MEAN,
        BIAS,
        BIAS_HIGH,
        BIAS_LOW,
        DRAWS,
        FAILURES,
        GATES,
        HIGH,
        HIGH_OF_MEAN,
        KEPT,
        LAYER,
        LENGTH_RATIO,
        LOSS_RISE,
        LOW,
        LOW_OF_MEAN,
        PART,
        PRODUCT,
        PROJECTION,
        RANK,
        RECIPE,
        SHARE,
        N,
    )
    from predictor.recipe_table import Part as Place
    from reports.tables.cells import bounded, or_dash, with_interval

    def angle(row: pd.Series[float], mean: str, low: str, high: str) -> str:
        return bounded(row[mean], row[low], row[high], row[N])

    rows, kept = [], []
    for _, row in table.iterrows():
        where = [row[PRODUCT] if row[PRODUCT] != ALL else "", row[LAYER] if row[LAYER] != ALL else ""]
        where[1] += f" {row[PART]}" if where[1] else ""
        if row[PART] == Place.KEPT:
            names = row[LAYER].split()
            where = [f"{100 * row[KEPT]:.1f}% kept"]
            kept.append(f"{row[RECIPE]}, in bfloat16: {', '.join(names) or 'nothing that saves any fits'}")
        several = angle(row, ANGLE_OF_MEAN, LOW_OF_MEAN, HIGH_OF_MEAN) if row[DRAWS] > 1 else ""
        rows.append(
            [
                *("" if pd.isna(row[RANK]) else f"{row[RANK]:.0f}", row[RECIPE], " ".join(filter(None, where))),
                *(angle(row, ANGLE, LOW, HIGH), several, or_dash(row[PROJECTION], ".4f")),
                *(or_dash(row[LENGTH_RATIO], ".4f"), with_interval(row, BIAS, BIAS_LOW, BIAS_HIGH)),
                *(
                    f"{row[LOSS_RISE]:+.4g}",
                    f"{100 * row[SHARE]:.1f}%",
                    or_dash(row[GATES], ",.0f"),
                    str(row[N]),
                    str(row[FAILURES] or ""),
                ),
            ]
        )
    right = (
        "angle (deg)",
        "of the mean",
        "projection",
        "length",
        "bias",
        "loss",
        "share",
        "gates",
        "mini-batches",
        "failed",
    )
    headers = [("", "right"), ("recipe", "left"), ("alone", "left"), *((name, "right") for name in right)]
    return [
        plain(None, headers, rows),
        *kept,
        "of the mean: the angle of the mean over many draws of random numbers, whose noise averages out; projection: 1 "
        "where the length along the gradient is kept; share: of the multiply-accumulates; gates: of one, the "
        "mean, scales included, without infinities and NaN",
    ]


def validation(found: RecipeValidation, title: str) -> list[Part]:
    """A row a recipe, the smallest gap first, and how well each number of the table has predicted the gap."""
    import numpy as np

    from predictor.columns import ANGLE_OF_MEAN, BIAS, GAP, PROJECTION, RECIPE
    from reports.tables.cells import correlations, or_dash

    rows = []
    for name, runs in found.runs.groupby(RECIPE, sort=False):
        diverged, gap = int(np.isinf(runs["loss"]).sum()), runs[GAP]
        spread = "" if diverged else f"{gap.min():+.2%} to {gap.max():+.2%}"
        mean = f"{diverged} diverged" if diverged else or_dash(gap.mean(), "+.2%")
        numbers = [or_dash(runs[column].iloc[0], ".4g") for column in (ANGLE_OF_MEAN, PROJECTION, BIAS)]
        rows.append((gap.mean(), [str(name), mean, spread, *numbers]))
    rows.sort(key=lambda row: row[0])
    right = ("gap", "seeds' range", "angle of the mean", "projection", "bias")
    against = [f"{name} against the gap: {correlations(of)}" for name, of in found.agreements.items()]
    said = f"reliability of the mean gap over seeds: {found.reliability:.3f}"
    return [
        plain(title, [("recipe", "left"), *((name, "right") for name in right)], [cells for _, cells in rows]),
        *against,
        *([said] if found.reliability == found.reliability else []),
    ]
