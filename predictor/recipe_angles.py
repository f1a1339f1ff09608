"""Recipes compared on common mini-batches, without training (docs/definitions/recipes.md section 3)."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import pandas as pd

from formats.recipes.presets import BASELINE, PRESETS
from formats.recipes.reading import recipe
from formats.recipes.value import ALL_BEFORE, Product, Recipe
from numeric_formats.checks import at_least, one_of
from numeric_formats.progress import Report, quiet
from predictor.effects import Effect
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import MEASURE, Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import Measurement, check_minibatches, used_batch_size
from predictor.measuring.validity import batch_digest
from predictor.memory import Memory, available_memory, memory_of
from predictor.multiply_accumulates import ProductCost, product_costs, share_of
from predictor.recipe_keeping import Keep, keeping_of, rows_of_kept, rows_to_choose_by
from predictor.recipe_parts import Order, Part
from predictor.recipe_table import Row, tabulated
from predictor.recipes.gradients import with_recipe
from predictor.recipes.placed import Placed, Top
from predictor.scheme import CURRENT
from workloads.digests import digest, weights_digest
from workloads.workload import Batch, Workload

DEFAULT_MINIBATCHES = 4
DEFAULT_DRAWS = 4
LONGEST_TIMED = 15.0
"""Seconds after which `--dry-run` times no further recipe."""
COVERAGE, COMPLETE = "coverage", "complete"
Found = dict[int, list[tuple[int, Measurement]]]
"""Of each row, by its place, the measurements with their draws."""


class By(StrEnum):
    """What a recipe is taken apart by."""

    PRODUCT = "product"
    LAYER = "layer"
    BOTH = "both"


@dataclass(frozen=True)
class RecipesEstimate:
    """What a comparison of recipes is going to do, for `--dry-run`.

    Attributes:
        recipes: how many.
        products: of the network that they change.
        share: of its multiply-accumulates that these are.
        gradients: to compute.
        minibatches: on so many.
        memory: at the peak, of each process that measures.
        seconds: about how long it takes, from a gradient of each of the recipes, or of some where that takes long, on
            the first mini-batch; None where there is less memory than it takes.
    """

    recipes: int
    products: int
    share: float
    gradients: int
    minibatches: int
    memory: Memory
    seconds: float | None


def measure_recipes(
    workload: Workload,
    recipes: Sequence[str | Recipe] | None = None,
    minibatches: int | None = None,
    *,
    by: Iterable[str] = (),
    keep: Keep | None = None,
    order: Order | str = Order.PROJECTION,
    batch_size: int | None = None,
    draws: int = DEFAULT_DRAWS,
    head: bool = False,
    exact: Sequence[str] = (),
    seed: int = 0,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Report = quiet,
    first: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """What recipes do to the weight gradients of a network, never training.

    KeyboardInterrupt ends it early: what was measured by then is returned, and `attrs["complete"]` is False; where
    there is nothing, it is raised again.

    Args:
        workload: the network, its loss and its mini-batches.
        recipes: recipes, or their names as `formats.recipe` takes them; by default all presets. `bf16` is always among
            them.
        minibatches: how many; by default 4, or all where there are fewer.
        by: any of "product" (each product alone), "layer" (each layer alone, and everything without it) and "both"
            (each product of each layer alone).
        keep: measure each recipe with some products kept in bfloat16 too: those of the layers that are named, or those
            that save most for their cost, by what each recipe gives without each of them, for a share of the
            multiply-accumulates (0.15), or for each of several.
        order: what recipes are ranked by: "projection", its distance from 1, which orders trainings best
            (docs/results/recipes.md), or "angle", that of the mean over draws.
        batch_size: examples of a mini-batch, by default the workload's.
        draws: of the random numbers of a recipe that has some, on every mini-batch.
        head: whether the last product of the network is changed too.
        exact: layers kept in full precision.
        seed: of the random numbers.
        store: where exact measurements are found and kept; by default none is.
        executor: what measures, by default this process.
        progress: hears of every gradient.
        first: hears of the table of the first mini-batch, where there are more.

    Returns:
        A row a recipe, best first, after each what is kept beside it, its products and layers: rank (those that are not
        told apart share one), rank_by_projection and rank_by_angle, recipe, product ("all", "fprop", ...), layer
        ("all", the name of a product of the network, or of those that are kept), part ("everywhere", "alone",
        "without", "kept"), angle with low and high (95% t-interval), angle_of_mean with its interval (of the mean over
        many draws; without random numbers the angle), projection, length_ratio, bias with its interval, loss, share (of
        the network's multiply-accumulates), kept (the share of these that is in bfloat16 instead), gates (of a
        multiply-accumulate lane, formats/hardware/cost.py; the mean over what is changed), draws, n (mini-batches),
        failures (zero or non-finite gradients). Its `attrs` hold all that reproduces it.

    Raises:
        ValueError: an argument is out of range, there is no such recipe, or the workload cannot be measured.

    Source:
        docs/definitions/recipes.md section 3.
    """
    chosen, ordered = _chosen(recipes), one_of("order", Order, order)
    apart = _apart(by)
    _check_draws(draws, chosen)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    measuring = Measuring(workload, tuple(exact), CURRENT, store, executor or InProcess(), progress)
    costs = product_costs(workload, batches[0])
    changed = _changed(costs, head, exact)
    wanted, names = keeping_of(keep), [cost.name for cost in changed]
    wanted.check(names)
    rows = list(_rows(chosen, apart, changed, head, seed))
    choosing = rows_to_choose_by(rows, wanted, names)
    found: Found = {}
    began, complete = time.monotonic(), True
    try:

        def of_first() -> None:
            if first is not None:
                # With several workers others may be there already.
                own = {row: [entry for entry in of if entry[1].minibatch == 0] for row, of in found.items()}
                first(tabulated(rows, own, costs, tuple(exact), ordered))

        _measure(measuring, [*rows, *choosing], batches, draws, found, of_first)
        chosen_by = tabulated([*rows, *choosing], found, costs, tuple(exact))
        found = {index: entries for index, entries in found.items() if index < len(rows)}
        rows += rows_of_kept(rows, wanted, names, costs, chosen_by)
        _measure(measuring, rows, batches, draws, found)
    except KeyboardInterrupt:
        if not found:
            raise
        complete = False
    table = tabulated(rows, found, costs, tuple(exact), ordered)
    table.attrs = {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "data": digest(list(batches)),
        "recipes": {each.name: each.digest for each in chosen},
        "minibatches": len(batches),
        "batch_size": used_batch_size(workload, batch_size),
        "draws": draws,
        "order": ordered.value,
        "keep": [*wanted.shares, *wanted.layers],
        "head": head,
        "exact": list(exact),
        "seed": seed,
        COMPLETE: complete,
        "seconds": time.monotonic() - began,
    }
    if measuring.checked is not None:
        table.attrs[COVERAGE] = measuring.checked.sentence
    return table


def _measure(
    measuring: Measuring,
    rows: Sequence[Row],
    batches: Sequence[Batch],
    draws: int,
    found: Found,
    of_first: Callable[[], None] | None = None,
) -> None:
    """Measure the rows that nothing was found of, into `found`. of_first: is called once all of the first mini-batch
    are there, where there are more."""
    work = _work(measuring, rows, [index for index in range(len(rows)) if index not in found], batches, draws)
    total = len(work)
    if not total:
        return
    measuring.report(MEASURE, 0, total)
    candidates = [placed for _, _, placed in work]
    units = [(number, index) for index, (_, number, _) in enumerate(work)]
    units.sort()
    left = Counter(number for number, _ in units)
    for done, measurement in enumerate(measuring.measured(candidates, batches, (Effect.OPERANDS,), units), 1):
        row = work[measurement.format][0]
        found.setdefault(row, []).append((candidates[measurement.format].draw, measurement))
        measuring.report(MEASURE, done, total)
        left[measurement.minibatch] -= 1
        if of_first is not None and not left[0] and done < total:
            of_first()
            of_first = None


def estimate_recipes(
    workload: Workload,
    recipes: Sequence[str | Recipe] | None = None,
    minibatches: int | None = None,
    *,
    by: Iterable[str] = (),
    keep: Keep | None = None,
    batch_size: int | None = None,
    draws: int = DEFAULT_DRAWS,
    head: bool = False,
    exact: Sequence[str] = (),
) -> RecipesEstimate:
    """What `measure_recipes` with these arguments would do, and about how long it would take."""
    chosen, apart = _chosen(recipes), _apart(by)
    _check_draws(draws, chosen)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    costs = product_costs(workload, batches[0])
    changed = _changed(costs, head, exact)
    wanted, names = keeping_of(keep), [cost.name for cost in changed]
    wanted.check(names)
    rows = list(_rows(chosen, apart, changed, head, 0))
    # What is kept takes as long as the recipe itself.
    kept = wanted.rows * [row for row in rows if row.may_keep]
    rows += [*rows_to_choose_by(rows, wanted, names), *kept]
    memory, seconds = memory_of(workload, batches[0]), None
    if memory.total - memory.weights < available_memory():
        gradients_of = Counter[str]()
        for row in rows:
            gradients_of[row.placed.name] += row.draws(draws)
        shared, each = _timed(Measuring(workload, tuple(exact), CURRENT), chosen, gradients_of, batches[0], head)
        delayed = sum(each[one.name] for one in chosen if one.history is not None)
        seconds = len(batches) * (shared + delayed + sum(each[row.placed.name] * row.draws(draws) for row in rows))
    return RecipesEstimate(
        recipes=len(chosen),
        products=len(changed),
        share=share_of(Placed(chosen[0], head=head), costs, tuple(exact)),
        gradients=len(batches) * sum(row.draws(draws) for row in rows),
        minibatches=len(batches),
        memory=memory,
        seconds=seconds,
    )


def _check_draws(draws: int, chosen: Iterable[Recipe]) -> None:
    at_least(f"{draws} draw{'s' * (draws != 1)}", draws)
    if any(each.random for each in chosen):
        at_least(f"{draws} draw{'s' * (draws != 1)} of recipes with random numbers", draws, 2)


def _timed(
    measuring: Measuring, chosen: Sequence[Recipe], gradients_of: Counter[str], batch: Batch, head: bool
) -> tuple[float, dict[str, float]]:
    """Seconds of what all recipes share on a mini-batch, and of each recipe by its name; of as many as a short while
    takes, those first that most gradients are of, and for the others their mean."""
    each: dict[str, float] = {}
    began = first = time.monotonic()
    with measuring.gradients(batch, kept=False) as gradients:
        shared = time.monotonic() - began
        for one in sorted(chosen, key=lambda one: -gradients_of[one.name]):
            for _ in range(1 + (not each)):  # the first compiles what is not in the cache
                began = time.monotonic()
                with_recipe(gradients, Placed(one, head=head), lambda *_: None)
                each[one.name] = time.monotonic() - began
            if time.monotonic() - first > LONGEST_TIMED:
                break
    mean = sum(each.values()) / len(each)
    return shared, {one.name: each.get(one.name, mean) for one in chosen}


def _chosen(recipes: Sequence[str | Recipe] | None) -> list[Recipe]:
    """The recipes, the baseline first where it was not asked for."""
    named = [recipe(each) for each in (list(PRESETS) if recipes is None else recipes)]
    if not named:
        raise ValueError("no recipe was given")
    baseline = recipe(BASELINE)
    if baseline not in named:
        named.insert(0, baseline)
    names = [each.name for each in named]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two recipes are called {name!r}: give one of them another name")
    return named


def _apart(by: Iterable[str]) -> set[By]:
    return {one_of("by", By, each) for each in by}


def _changed(costs: Sequence[ProductCost], head: bool, exact: Sequence[str]) -> list[ProductCost]:
    """The products of the network that recipes change, in order."""
    everywhere = Placed(recipe(BASELINE), head=head)
    return [cost for cost in costs if share_of(everywhere, [cost], tuple(exact)) > 0]


def _rows(
    chosen: Sequence[Recipe], apart: set[By], changed: Sequence[ProductCost], head: bool, seed: int
) -> Iterator[Row]:
    for one in chosen:
        placed = Placed(one, head=head, seed=seed)
        yield Row(placed)
        if one.name == BASELINE and len(chosen) > 1:
            continue  # it is there to be compared with, and nobody asks where it comes from
        if By.PRODUCT in apart:
            for product in Product:
                if one.of(product).changes:
                    yield Row(replace(placed, products=frozenset({product})), product=product.value)
        if By.LAYER in apart:
            for name in (cost.name for cost in changed):
                yield Row(replace(placed, only=frozenset({name})), layer=name, part=Part.ALONE)
                yield Row(replace(placed, without=frozenset({name})), layer=name, part=Part.WITHOUT)
        if By.BOTH in apart:
            for cost, product in itertools.product(changed, Product):
                if product in cost.products and one.of(product).changes:
                    alone = replace(placed, only=frozenset({cost.name}), products=frozenset({product}))
                    yield Row(alone, product=product.value, layer=cost.name, part=Part.ALONE)


def _work(
    measuring: Measuring, rows: Sequence[Row], wanted: Sequence[int], batches: Sequence[Batch], draws: int
) -> list[tuple[int, int, Placed]]:
    """What is measured of the wanted rows: the row, the mini-batch, and the recipe with its draw and, where its scaling
    is delayed, the scales of that mini-batch."""
    work = []
    for index in wanted:
        row = rows[index]
        before = _scales(measuring, row.placed, batches) if row.placed.recipe.history is not None else None
        for number in range(len(batches)):
            for draw in range(row.draws(draws)):
                tops = () if before is None else before[number]
                work.append((index, number, replace(row.placed, draw=draw, tops=tops)))
    return work


def _scales(measuring: Measuring, placed: Placed, batches: Sequence[Batch]) -> list[tuple[tuple[str, Top], ...]]:
    """Of delayed scaling: the scales of each mini-batch, the largest that its forerunners found; none for the first."""
    history, own = placed.recipe.history, [_found(measuring, placed, batch) for batch in batches]
    scales = []
    for number in range(len(batches)):
        first = 0 if history == ALL_BEFORE or history is None else max(0, number - history)
        before = own[first:number]
        scales.append(tuple(sorted((key, max(each[key] for each in before)) for key in (before[0] if before else ()))))
    return scales


def _found(measuring: Measuring, placed: Placed, batch: Batch) -> dict[str, Top]:
    """The scales that the operands of one mini-batch ask for, kept in the store."""
    key, what = batch_digest(batch), f"scales {placed.digest}"
    context = None if measuring.store is None else measuring.context()
    if measuring.store is not None and context is not None:
        kept = measuring.store.get_record(context, key, what, lambda content: dict(json.loads(content)))
        if kept is not None:
            return kept
    with measuring.gradients(batch, kept=False) as gradients:
        found = with_recipe(gradients, placed)[1].tops
    if measuring.store is not None and context is not None:
        measuring.store.put_record(context, key, what, json.dumps(found).encode())
    return found
