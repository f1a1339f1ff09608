"""Recipes: a list of them, one as a table, and what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from formats.recipes.value import OPERANDS, Product, Recipe, history_in_words
from numeric_formats.messages import counted, lasting
from reports.tables.layout import Part, plain

if TYPE_CHECKING:
    import pandas as pd

    from formats.recipes.presets import Preset
    from predictor.recipe_comparison.outlook import RecipesEstimate
    from training.recipe_validation import RecipeValidation

RANKED_BY = {"projection": "the distance of the projection from 1", "angle": "the angle of the mean"}
PAIRS_SHOWN = 6
"""Pairs of recipes, or layers of one, that a line names."""
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
        "what a product takes meanwhile": memory.at_hand,
    }
    parts = ", ".join(f"{name} {decimal(size)}" for name, size in sizes.items())
    told = "" if of.timed else ", give or take 40%, told by its multiply-accumulates"
    short = "" if of.fits else f", more than the {decimal(of.free)} that are free"
    batches = counted(of.minibatches, "mini-batch") + (f" of {' x '.join(map(str, of.shape))}" if of.shape else "")
    carried_out = (
        ""
        if of.by_shapes
        else (
            "\nthe network looks at numbers on the way, as experts do: it was carried out, not followed by shapes, and "
            "with other numbers its products may be others"
        )
    )
    return (
        f"{model}: {counted(of.recipes, 'recipe')}, {counted(of.products, 'product')} with {100 * of.share:.1f}% of "
        f"the multiply-accumulates; {counted(of.gradients, 'gradient')} on {batches}; about "
        f"{lasting(of.seconds)}{told}\n"
        f"memory at the peak: {decimal(memory.total)}{short}, of which {parts}{carried_out}"
    )


def as_measured(table: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """A table from a file as `predictor.measure_recipes` gave it: where nothing is kept a file has no text, and older
    ones have fewer columns. settings: of its sidecar."""
    from predictor.columns import LAYER
    from predictor.recipe_comparison.parts import Order
    from predictor.recipe_comparison.table import LATER

    found = table.reindex(columns=[*table.columns, *(column for column in LATER if column not in table)])
    found = found.fillna({LAYER: ""})
    found.attrs["order"] = settings.get("order", Order.PROJECTION)
    return found


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
        BY_ANGLE,
        BY_PROJECTION,
        DRAWS,
        FAILURES,
        GATES,
        HIGH,
        HIGH_OF_MEAN,
        LAYER,
        LENGTH_RATIO,
        LOSS_RISE,
        LOW,
        LOW_OF_MEAN,
        PART,
        PRODUCT,
        RANK,
        RECIPE,
        SHARE,
        N,
    )
    from predictor.recipe_comparison.parts import Order
    from predictor.recipe_comparison.parts import Part as Place
    from reports.tables.cells import bounded, or_dash, projection, with_interval

    def angle(row: pd.Series[float], mean: str, low: str, high: str) -> str:
        return bounded(row[mean], row[low], row[high], row[N])

    # As most tables are, ordered by the projection; by the angle where that gave the ranks.
    order = Order(table.attrs.get("order", Order.PROJECTION))
    other = BY_ANGLE if order is Order.PROJECTION else BY_PROJECTION
    rows = []
    for _, row in table.iterrows():
        if row[PART] == Place.KEPT:
            continue
        where = [row[PRODUCT] if row[PRODUCT] != ALL else "", row[LAYER] if row[LAYER] != ALL else ""]
        where[1] += f" {row[PART]}" if where[1] else ""
        several = angle(row, ANGLE_OF_MEAN, LOW_OF_MEAN, HIGH_OF_MEAN) if row[DRAWS] > 1 else ""
        rows.append(
            [
                *("" if pd.isna(row[RANK]) else f"{row[RANK]:.0f}", row[RECIPE], " ".join(filter(None, where))),
                *(projection(row), angle(row, ANGLE, LOW, HIGH), several),
                *(
                    "" if pd.isna(row[other]) else f"{row[other]:.0f}",
                    or_dash(row[LENGTH_RATIO], ".4f"),
                    with_interval(row, BIAS, BIAS_LOW, BIAS_HIGH),
                ),
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
        "projection",
        "angle (deg)",
        "of the mean",
        "rank by angle" if order is Order.PROJECTION else "rank by projection",
        "length",
        "bias",
        "loss",
        "share",
        "gates",
        "mini-batches",
        "failed",
    )
    headers = [("rank", "right"), ("recipe", "left"), ("alone", "left"), *((name, "right") for name in right)]
    return [
        plain(None, headers, rows),
        *disagreements(table),
        *worst_parts(table),
        f"ranks: by {RANKED_BY[order]}; of the mean: the angle of the mean over many draws of random numbers, whose "
        "noise averages out; projection: 1 where the length along the gradient is kept; share: of all "
        "multiply-accumulates, those that the recipe changes (products of weights, the head only with --head); gates: "
        "of one, the mean, scales included, without infinities and NaN",
        *kept_in_bfloat16(table),
    ]


def worst_parts(table: pd.DataFrame) -> list[str]:
    """Of each recipe that was taken apart, in words: what its products turn the gradient by, alone, and which layers
    turn it most."""
    from predictor.columns import ALL, ANGLE_OF_MEAN, LAYER, PART, PRODUCT, RECIPE
    from predictor.recipe_comparison.parts import Part as Place

    said = []
    for name in dict.fromkeys(table[RECIPE]):
        own = table[(table[RECIPE] == name) & table[ANGLE_OF_MEAN].notna()].sort_values(ANGLE_OF_MEAN, ascending=False)
        products = own[(own[PRODUCT] != ALL) & (own[LAYER] == ALL)]
        if len(products):
            shown = ", ".join(f"{row[PRODUCT]} {row[ANGLE_OF_MEAN]:.3g}" for _, row in products.iterrows())
            said.append(f"{name}, products alone: {shown} degrees")
        alone = own[own[PART] == Place.ALONE]
        for rows, what in ((alone[alone[PRODUCT] == ALL], "layers"), (alone[alone[PRODUCT] != ALL], "their products")):
            if not len(rows):
                continue
            shown = ", ".join(
                f"{'' if row[PRODUCT] == ALL else f'{row[PRODUCT]} of '}{row[LAYER]} {row[ANGLE_OF_MEAN]:.3g}"
                for _, row in rows.head(PAIRS_SHOWN).iterrows()
            )
            squares = (rows[ANGLE_OF_MEAN] ** 2).cumsum()
            half = 1 + int((squares < squares.iloc[-1] / 2).sum())
            said.append(
                f"{name}, {what} alone: {shown} degrees turn it most; {half} of {len(rows)} hold half of the sum of "
                "the squares"
            )
    return said


def kept_in_bfloat16(table: pd.DataFrame) -> list[Part]:
    """What keeping layers gives, recipe by recipe, and their names to paste; nothing where nothing was kept."""
    import pandas as pd

    from predictor.columns import (
        ANGLE_OF_MEAN,
        GATES,
        HIGH_OF_MEAN,
        KEPT,
        LAYER,
        LOSS_RISE,
        LOW_OF_MEAN,
        PART,
        RANK,
        RECIPE,
        N,
    )
    from predictor.recipe_comparison.parts import Part as Place
    from reports.tables.cells import bounded, or_dash, projection

    found = table[table[PART] == Place.KEPT]
    if not len(found):
        return []
    of_recipes = table[table[RECIPE].isin(found[RECIPE]) & table[RANK].notna()]
    rows, names = [], []
    places = {name: place for place, name in enumerate(of_recipes[RECIPE])}
    in_order = pd.concat([of_recipes, found]).assign(place=lambda rows: rows[RECIPE].map(places))
    for _, row in in_order.sort_values(["place", KEPT], kind="stable").iterrows():
        of_mean = bounded(row[ANGLE_OF_MEAN], row[LOW_OF_MEAN], row[HIGH_OF_MEAN], row[N])
        share = f"{100 * row[KEPT]:.1f}%"
        numbers = [projection(row), of_mean, f"{row[LOSS_RISE]:+.4g}", or_dash(row[GATES], ",.0f")]
        rows.append([row[RECIPE], share, *numbers])
        if row[PART] == Place.KEPT:
            layers = ",".join(row[LAYER].split()) or "nothing that saves any fits"
            names.append(f"{row[RECIPE]}, {share} kept: {layers}")
    right = ("kept", "projection", "angle of the mean", "loss", "gates")
    headers = [("recipe", "left"), *((name, "right") for name in right)]
    return [
        plain("layers kept in bfloat16", headers, rows),
        *names,
        "kept: of the multiply-accumulates. The names are the network's own: for --keep, here as in formats train "
        "--recipe, and for the modules that your framework leaves in bfloat16",
    ]


def disagreements(table: pd.DataFrame) -> list[str]:
    """A line that names the pairs of recipes of which projection and angle say the opposite, each beyond its intervals;
    none where there is no such pair, or one mini-batch decides nothing."""
    from predictor.columns import ALL, BY_ANGLE, BY_PROJECTION, PART, PRODUCT, RECIPE, N
    from predictor.recipe_comparison.parts import Part as Place

    whole = table[(table[PRODUCT] == ALL) & (table[PART] == Place.EVERYWHERE)]
    if not len(whole) or whole[N].max() < 2:
        return []
    pairs = [
        f"{one[RECIPE]} before {other[RECIPE]}"
        for _, one in whole.iterrows()
        for _, other in whole.iterrows()
        if one[BY_PROJECTION] < other[BY_PROJECTION] and one[BY_ANGLE] > other[BY_ANGLE]
    ]
    more = f", and {len(pairs) - PAIRS_SHOWN} more pairs" if len(pairs) > PAIRS_SHOWN else ""
    said = ", ".join(pairs[:PAIRS_SHOWN])
    return [f"the projection puts {said}{more}; the angle of the mean says the opposite"] if pairs else []


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
