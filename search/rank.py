"""Ranking many formats on one workload: screen all, measure the promising exactly, predict the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import formats
from formats import Family
from formats.custom import ENDINGS
from predictor.gradient import Candidate, Effect, Gradients, candidate, formats_of
from predictor.measure import DEFAULT_EFFECTS, check_effects, check_minibatches, measurements
from predictor.noise import Kind, observe
from search.ranking import Angles, Ranking, tabulate
from workloads.digest import digest, weights_digest
from workloads.workload import Workload

BEST_OF_SCREEN = 40
"""How many of the best by the screen are measured exactly, beside the named formats and the block minifloats."""
DEFAULT_MINIBATCHES = 4
NAMED = (Family.INT, Family.FP)


class Stage(StrEnum):
    """What a ranking is doing."""

    SCREEN = "screen"
    MEASURE = "measure"


@dataclass(frozen=True)
class Progress:
    """How far a ranking is: `done` of `total` units of a stage (mini-batches screened; formats times mini-batches measured)."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True)
class Plan:
    """What a ranking is going to do, for `--dry-run`.

    points: on the network. measured, predicted: candidates by how their angle is found. gradients: quantized gradients to compute.
    seconds: estimate, from one format measured on the first mini-batch.
    """

    points: int
    candidates: int
    measured: int
    predicted: int
    minibatches: int
    gradients: int
    seconds: float


def choose(
    names: Iterable[str | Candidate] | None = None,
    bits: int | None = None,
    family: str | None = None,
    max_binades: int | None = None,
) -> list[Candidate]:
    """Candidates by name, or those of the catalogue that a filter leaves; each once, by content."""
    if names is None:
        chosen: list[Candidate] = list(formats.catalogue(bits, family))
    else:
        chosen = [entry for name in names for entry in _by_name(name)]
        if bits is not None or family is not None:
            raise ValueError("candidates by name cannot be filtered by bits or family as well")
    if max_binades is not None:
        chosen = [
            entry
            for entry in chosen
            if all(not isinstance(f, formats.ProfileFormat) or f.binades <= max_binades for f in formats_of(entry))
        ]
    unique = list({entry.digest: entry for entry in chosen}.values())
    if not unique:
        raise ValueError("no format is left to rank")
    return unique


def _by_name(name: str | Candidate) -> list[Candidate]:
    """The candidate of this name, or all that a file defines."""
    if isinstance(name, str) and name.endswith(ENDINGS):
        return list(formats.load_formats(Path(name)))
    return [candidate(name)]


def _always_measured(entry: Candidate) -> bool:
    """Named formats, block minifloats, and everything that is not of the catalogue's tapered kind."""
    return not (isinstance(entry, formats.ProfileFormat) and entry.family is Family.TAPERED)


def _select(candidates: Sequence[Candidate], scores: NDArray[np.float64]) -> list[int]:
    """Indices to measure: all that must be, and the best by the screen."""
    always = [index for index, entry in enumerate(candidates) if _always_measured(entry)]
    best = np.argsort(scores, kind="stable")[:BEST_OF_SCREEN]
    return sorted({*always, *(int(index) for index in best if np.isfinite(scores[index]))})


def _scores(sums: NDArray[np.float64], effect: Effect) -> NDArray[np.float64]:
    """The screen's prediction of tan^2(angle) up to a factor: activations, errors, or both."""
    return np.asarray({Effect.A: sums[:, 0], Effect.E: sums[:, 1], Effect.AE: sums.sum(1)}[effect])


def _predict(scores: NDArray[np.float64], angles: Angles, effect: Effect) -> NDArray[np.float64]:
    """Angles from scores: tan^2(angle) as a power of the score, fitted to the formats that were measured."""
    known = [
        (np.log(scores[index]), 2 * np.log(np.tan(np.radians(np.mean(list(found.values()))))))
        for index in range(len(scores))
        if (found := angles.of(index, effect)) and np.isfinite(scores[index]) and scores[index] > 0
        if 0 < np.mean(list(found.values())) < 89
    ]
    if not known:
        return np.full(len(scores), np.nan)
    x, y = np.array(known).T
    slope = 1.0 if len(known) < 3 or np.ptp(x) == 0 else float(np.polyfit(x, y, 1)[0])
    offset = float(np.median(y - slope * x))
    with np.errstate(divide="ignore"):
        logarithms = slope * np.log(scores) + offset
    return np.degrees(np.arctan(np.exp(logarithms / 2)))


def _quiet(_: Progress) -> None:
    return None


def plan(
    workload: Workload,
    candidates: Sequence[str | Candidate] | None = None,
    *,
    effects: Iterable[str] = DEFAULT_EFFECTS,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exhaustive: bool = False,
) -> Plan:
    """What `rank` with these arguments would do, and about how long it would take."""
    chosen, wanted = choose(candidates), check_effects(effects)
    batches = check_minibatches(workload, minibatches, batch_size, None if exhaustive else DEFAULT_MINIBATCHES)
    screened = [entry for entry in chosen if not _always_measured(entry)]
    measured = len(chosen) if exhaustive else len(chosen) - len(screened) + min(BEST_OF_SCREEN, len(screened))
    began = time.monotonic()
    with Gradients(workload, batches[0]) as gradients:
        shared = time.monotonic() - began
        points = len(gradients.flow.points)
        for _ in gradients.quantized(chosen[0], wanted):  # the first compiles what is not in the cache
            pass
        began = time.monotonic()
        for _ in gradients.quantized(chosen[0], wanted):
            pass
        each = time.monotonic() - began
    seconds = len(batches) * (shared + measured * each)
    return Plan(points, len(chosen), measured, len(chosen) - measured, len(batches), measured * len(batches) * len(wanted), seconds)


def rank(
    workload: Workload,
    candidates: Sequence[str | Candidate] | None = None,
    *,
    effects: Iterable[str] = DEFAULT_EFFECTS,
    by: str | None = None,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exhaustive: bool = False,
    time_budget: float | None = None,
    exact: Sequence[str] = (),
    two_terms: bool = True,
    progress: Callable[[Progress], None] = _quiet,
) -> Ranking:
    """Rank formats by the angle between quantized and full-precision weight gradients.

    candidates: formats, pairs or names; by default the catalogue's 498. effects: of E, A and AE, and, only where every candidate is measured, W and WAE. by: the effect that orders the table, by default AE where
    it is measured. minibatches: how many common mini-batches; by default 4 (all with exhaustive), or all where there are fewer. exhaustive: measure every candidate, not only the best 40 of
    the screen, the named formats and the block minifloats. time_budget: seconds after which measuring stops with what it has.

    KeyboardInterrupt while measuring ends it in the same way. Raises ValueError for arguments out of range.
    """
    chosen, wanted = choose(candidates), check_effects(effects)
    usual = Effect.AE if Effect.AE in wanted else wanted[-1]
    order = check_effects([by])[0] if by is not None else usual
    if order not in wanted:
        raise ValueError(f"a ranking by {order} needs that effect among the measured ones, which are {', '.join(wanted)}")
    if time_budget is not None and time_budget <= 0:
        raise ValueError(f"time budget {time_budget} s: a positive number of seconds is needed")
    batches = check_minibatches(workload, minibatches, batch_size, None if exhaustive else DEFAULT_MINIBATCHES)
    began = time.monotonic()
    angles, complete = Angles(), True
    sums = np.full((len(chosen), 2), np.nan)
    screened = [index for index, entry in enumerate(chosen) if not _always_measured(entry)]
    if not exhaustive and len(screened) > BEST_OF_SCREEN:
        for effect in wanted:
            if effect not in DEFAULT_EFFECTS:
                raise ValueError(
                    f"effect {effect} is measured, never predicted: rank exhaustively, or at most {BEST_OF_SCREEN} tapered formats"
                )
        progress(Progress(Stage.SCREEN, 0, 1))
        # Named formats are screened too: they are measured as well, and tie the screen's scale to angles.
        with_table = [i for i, entry in enumerate(chosen) if i in set(screened) or _named(entry)]
        with Gradients(workload, batches[0], exact=exact, two_terms=two_terms) as gradients:
            entries = [chosen[index] for index in with_table]
            noise = observe(gradients, entries)
            ratios = noise.ratios(entries)
            sums[with_table] = np.stack([ratios[:, noise.rows(kind)].sum(1) for kind in (Kind.A, Kind.E)], axis=1)
        progress(Progress(Stage.SCREEN, 1, 1))
        measured = _select(chosen, _scores(sums, order))
    else:
        measured = list(range(len(chosen)))
    total, done = len(measured) * len(batches), 0
    try:
        progress(Progress(Stage.MEASURE, 0, total))
        for found in measurements(workload, [chosen[index] for index in measured], batches, wanted, exact=exact, two_terms=two_terms):
            angles.add(replace(found, format=measured[found.format]))
            if found.effect is wanted[-1]:
                done += 1
                progress(Progress(Stage.MEASURE, done, total))
                if time_budget is not None and time.monotonic() - began > time_budget and done < total:
                    complete = False
                    break
    except KeyboardInterrupt:
        complete = False
    predicted = {effect: _predict(_scores(sums, effect), angles, effect) for effect in wanted if effect in DEFAULT_EFFECTS}
    table = tabulate(chosen, wanted, order, angles, predicted)
    settings: dict[str, Any] = {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "data": digest(list(batches)),
        "effects": [effect.value for effect in wanted],
        "by": order.value,
        "minibatches": len(batches),
        "batch_size": batch_size if batch_size is not None or not callable(workload.batches) else workload.batch_size,
        "exhaustive": exhaustive,
        "time_budget": time_budget,
        "exact": list(exact),
        "two_terms": two_terms,
        "candidates": len(chosen),
        "measured": len(measured),
        "measurements": done,
        "failures": angles.failures,
        "complete": complete,
        "seconds": time.monotonic() - began,
        "formats": {entry.name: entry.digest for entry in chosen},
    }
    return Ranking(table, order, complete, settings)


def _named(entry: Candidate) -> bool:
    return isinstance(entry, formats.ProfileFormat) and entry.family in NAMED
