"""A format for each layer, under a budget of bits that the layers share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from formats.profile import written
from numeric_formats.progress import Report, quiet
from predictor.columns import BITS, ELEMENTS, LAYER, NAME, PROFILE, SCORE
from predictor.effects import Effect
from predictor.gradient.noise import Noise
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.scheme import CURRENT, Preset, Scheme, scheme_of
from search.knapsack import Constraints, ScoreTable, check_width, synthesize
from search.sensitivity import check_fitted, check_passes, check_rows, known_formats, observed_noise, row_weights
from search.settings import LayersSettings, origin_of
from workloads.workload import Workload

WIDTHS = (4, 5, 6, 7, 8)
"""What a layer may have by default, in bits."""


def check_widths(average_bits: float, widths: Iterable[int]) -> list[int]:
    """The widths in order; ValueError where one cannot be searched, or the narrowest is above the average."""
    allowed = sorted(set(widths))
    if not allowed:
        raise ValueError("no width was given")
    for bits in allowed:
        check_width(bits)
    if not average_bits >= allowed[0]:
        raise ValueError(f"an average of {average_bits} bits: the narrowest allowed format has {allowed[0]}")
    return allowed


def allocate(scores: NDArray[np.float64], sizes: Sequence[Sequence[int]], budget: int) -> list[int]:
    """One choice for each layer with the least sum of scores, among those whose sizes add up to at most the budget.

    scores, sizes: (layers, choices). Exact: all partial sums are kept but those over the budget and those that another
    one beats in both size and score. ValueError where even the smallest choices are over the budget.
    """
    least = [min(row) for row in sizes]
    if sum(least) > budget:
        raise ValueError(f"a budget of {budget} bits: the narrowest formats take {sum(least)}")
    taken, lost = np.zeros(1, np.int64), np.zeros(1)
    steps: list[tuple[NDArray[np.int64], int]] = []
    room = budget - sum(least)
    # Sizes are counted from the smallest choice of each layer, so that every partial sum that fits can be completed.
    for row, size, smallest in zip(scores, sizes, least, strict=True):
        spent = (taken[:, None] + (np.array(size, np.int64) - smallest)).ravel()
        total = (lost[:, None] + row).ravel()
        order = np.lexsort((total, spent))
        order = order[: np.searchsorted(spent[order], room, side="right")]
        below = np.minimum.accumulate(np.append(np.inf, total[order]))
        order = order[total[order] < below[:-1]]
        steps.append((order, len(size)))
        taken, lost = spent[order], total[order]
    chosen, at = [], len(lost) - 1
    for order, choices in reversed(steps):
        at, choice = divmod(int(order[at]), choices)
        chosen.append(choice)
    return chosen[::-1]


def format_per_layer(
    passes: Sequence[Noise],
    weights: Sequence[NDArray[np.float64]],
    average_bits: float,
    widths: Iterable[int] = WIDTHS,
    constraints: Constraints = Constraints(),
    scheme: Scheme = CURRENT,
) -> pd.DataFrame:
    """The format of each layer with which the sum of all scores is least, while the average number of bits is at most
    `average_bits`.

    passes, weights: noise of full-precision passes and the weight of each of its rows. scheme: as for `synthesize`. The
    average is over the elements of all tensors of positive weight that are rounded; a layer with no such tensor has no
    row. Every width's format is the best of all profiles, and the choice among widths is exact.

    Returns one row a layer, in the order of execution: layer, name, bits, profile, elements (in a mini-batch), score.
    """
    allowed = check_widths(average_bits, widths)
    points = passes[0].points
    if any([point.layer for point in entry.points] != [point.layer for point in points] for entry in passes):
        raise ValueError("passes of one network are needed; these have different points")
    counted = np.any([row > 0 for row in weights], axis=0)
    layers = list(dict.fromkeys(point.layer for point, used in zip(points, counted, strict=True) if used))
    rows = {layer: np.array([point.layer == layer for point in points]) & counted for layer in layers}
    elements = [sum(math.prod(points[row].shape) for row in np.flatnonzero(rows[layer])) for layer in layers]
    budget = math.floor(min(average_bits, allowed[-1]) * sum(elements) + 1e-6)
    found = []
    for layer in layers:
        table = ScoreTable.of([entry.tables for entry in passes], [row * rows[layer] for row in weights])
        found.append([synthesize(table, bits, constraints, scheme=scheme)[0] for bits in allowed])
    scores = np.array([[entry.score for entry in row] for row in found]).reshape(len(layers), len(allowed))
    chosen = allocate(scores, [[bits * count for bits in allowed] for count in elements], budget)
    best = [row[choice] for row, choice in zip(found, chosen, strict=True)]
    return pd.DataFrame(
        {
            LAYER: layers,
            NAME: [entry.format.name for entry in best],
            BITS: [entry.format.bits for entry in best],
            PROFILE: [written(entry.format.profile) for entry in best],
            ELEMENTS: elements,
            SCORE: [entry.score for entry in best],
        }
    )


def search_layers(
    workload: Workload,
    average_bits: float,
    *,
    widths: Iterable[int] = WIDTHS,
    effect: str = Effect.AE,
    constraints: Constraints = Constraints(),
    passes: int = 1,
    batch_size: int | None = None,
    exact: Sequence[str] = (),
    scheme: Scheme | str = Preset.PAPER,
    two_terms: bool = True,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Report = quiet,
) -> tuple[pd.DataFrame, LayersSettings]:
    """A format for each layer under an average number of bits. Only a few known formats are measured, to find out how
    much each tensor counts; what comes out is predicted.

    Arguments that are not described here are those of `search`.

    Args:
        workload: What is measured.
        average_bits: The most bits that the elements of rounded tensors take on average.
        widths: The widths that a layer may have.
        effect: For which formats are chosen.
        passes: How many of the first mini-batches the synthesis sees.

    Returns:
        The table of `format_per_layer`, and the settings.

    Raises:
        ValueError: Arguments out of range.
    """
    of = check_fitted([effect])[0]
    allowed = check_widths(average_bits, widths)
    batches = workload.minibatches(batch_size)
    check_passes(passes, len(batches))
    seen = batches[:passes]
    rules = scheme_of(scheme, two_terms=two_terms)
    measuring = Measuring(workload, tuple(exact), rules, store, executor or InProcess(), progress)
    known = known_formats(max(allowed))
    noise = observed_noise(measuring, seen, known)
    check_rows(workload, noise, [of])
    weights = row_weights(measuring, noise, seen, known, (of,))[of]
    table = format_per_layer(noise, [weights] * len(noise), average_bits, allowed, constraints, rules)
    settings = LayersSettings(
        **origin_of(measuring, seen, batch_size),
        effect=of,
        average_bits=average_bits,
        widths=tuple(allowed),
        constraints=constraints,
        passes=passes,
    )
    return table, settings
