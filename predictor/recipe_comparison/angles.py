"""Recipes compared on common mini-batches, without training (docs/definitions/recipes.md section 3)."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pandas as pd

from formats.recipes.value import ALL_BEFORE, Recipe
from numeric_formats.checks import one_of
from numeric_formats.progress import Report, quiet
from predictor.effects import Effect
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import MEASURE, Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import Measurement, check_minibatches, used_batch_size
from predictor.measuring.validity import batch_digest
from predictor.recipe_comparison.keeping import Keep, keeping_of, rows_of_kept, rows_to_choose_by
from predictor.recipe_comparison.parts import Order
from predictor.recipe_comparison.rows import (
    DEFAULT_DRAWS,
    DEFAULT_MINIBATCHES,
    changed_products,
    check_draws,
    chosen_recipes,
    rows_of,
    taken_apart,
)
from predictor.recipe_comparison.table import Row, tabulated
from predictor.recipes.gradients import with_recipe
from predictor.recipes.placed import Placed, Top
from predictor.requirements.multiply_accumulates import product_costs
from predictor.scheme import CURRENT
from workloads.digests import digest, weights_digest
from workloads.workload import Batch, Workload

COVERAGE, COMPLETE = "coverage", "complete"
Found = dict[int, list[tuple[int, Measurement]]]
"""Of each row, by its place, the measurements with their draws."""


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
        many draws; without random numbers the angle), projection with its interval, length_ratio, bias with its
        interval, loss, share (of the network's multiply-accumulates), kept (the share of these that is in bfloat16
        instead), gates (of a multiply-accumulate lane, formats/hardware/cost.py; the mean over what is changed), draws,
        n (mini-batches), to_tell (mini-batches that would tell it from the baseline, at the spread that was seen; none
        where they do, or nobody knows), failures (zero or non-finite gradients). Its `attrs` hold all that reproduces
        it.

    Raises:
        ValueError: an argument is out of range, there is no such recipe, or the workload cannot be measured.

    Source:
        docs/definitions/recipes.md section 3.
    """
    workload.require_numbers()
    chosen, ordered = chosen_recipes(recipes), one_of("order", Order, order)
    apart = taken_apart(by)
    check_draws(draws, chosen)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    measuring = Measuring(workload, tuple(exact), CURRENT, store, executor or InProcess(), progress)
    costs = product_costs(workload, batches[0])
    changed = changed_products(costs, head, exact)
    wanted, names = keeping_of(keep), [cost.name for cost in changed]
    wanted.check(names)
    rows = list(rows_of(chosen, apart, changed, head, seed))
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
