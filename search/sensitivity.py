"""How much each tensor of a network counts: its noise in full-precision passes, and weights fitted to exact angles of
known formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

import formats
from formats.families import WIDTHS
from formats.pairs import Candidate
from predictor.effects import DEFAULT_EFFECTS, Effect, check_effects
from predictor.estimate.surrogate import Observation, fit, places, spread
from predictor.gradient.noise import Kind, Noise, observe
from predictor.measuring.session import Measuring
from predictor.measuring.units import Measurement
from search.stages import Stage
from workloads.workload import Workload

ANCHORS = 20
"""How many known formats of the width are measured to find out how much each tensor counts."""


def known_formats(bits: int) -> list[formats.ProfileFormat]:
    """The formats of a width that have names: the catalogue's, or where it has none, fixed point and the minifloats."""
    if bits in WIDTHS:
        return list(formats.catalogue(bits))
    names = [f"INT{bits}", *(f"FP1{x}{bits - 1 - x}" for x in range(2, bits))]
    return [found for name in names if isinstance(found := formats.get(name), formats.ProfileFormat)]


def check_fitted(effects: Iterable[str]) -> tuple[Effect, ...]:
    """Effects from their names; ValueError also for those of weights, to which no format is fitted."""
    wanted = check_effects(effects)
    for effect in wanted:
        if effect not in DEFAULT_EFFECTS:
            raise ValueError(
                f"effect {effect}: formats are fitted to errors and activations; allowed are "
                f"{', '.join(DEFAULT_EFFECTS)}"
            )
    return wanted


def check_passes(passes: int, available: int) -> None:
    """ValueError for a number of noise passes that there are no mini-batches for."""
    if not 1 <= passes <= available:
        raise ValueError(f"{passes} noise passes: 1 to {available} are possible, one for each mini-batch")


def check_rows(workload: Workload, noise: Sequence[Noise], effects: Sequence[Effect]) -> None:
    """ValueError for an effect of which nothing is rounded, so that any format would do."""
    for effect in effects:
        for kind in Kind:
            if kind.value in effect.value and not any(len(each.rows(kind)) for each in noise):
                raise ValueError(
                    f"effect {effect}: workload {workload.name} rounds no {kind} in one term, so that there is nothing "
                    "to fit a format to"
                )


def measured_in(
    measuring: Measuring,
    stage: Stage,
    candidates: Sequence[Candidate],
    batches: Sequence[object],
    effects: tuple[Effect, ...],
    units: Sequence[tuple[int, int]],
) -> Iterator[Measurement]:
    """Exact measurements of (mini-batch, candidate) units, with progress of the stage."""
    measuring.report(stage, 0, len(units))
    done = 0
    for measurement in measuring.measured(candidates, batches, effects, units):
        yield measurement
        if measurement.effect is effects[-1]:
            done += 1
            measuring.report(stage, done, len(units))


def observed_noise(measuring: Measuring, batches: Sequence[object], candidates: Sequence[Candidate]) -> list[Noise]:
    """The noise of one full-precision pass for each mini-batch."""
    passes = []
    measuring.report(Stage.SCREEN, 0, len(batches))
    for done, batch in enumerate(batches, start=1):
        with measuring.opened(batch, kept=False) as gradients:
            passes.append(observe(gradients, candidates))
        measuring.report(Stage.SCREEN, done, len(batches))
    return passes


def row_weights(
    measuring: Measuring,
    noise: Sequence[Noise],
    batches: Sequence[object],
    known: Sequence[Candidate],
    effects: tuple[Effect, ...],
) -> dict[Effect, NDArray[np.float64]]:
    """How much each tensor counts for each effect, (rows,): the weights of a surrogate fitted to known formats on the
    same mini-batches."""
    ratios = np.mean([each.ratios(known) for each in noise], axis=0)
    anchors = spread(places(ratios)[0], ANCHORS, [int(np.argmin(ratios.sum(1)))])
    units = [(number, index) for number in range(len(batches)) for index in anchors]
    observed: dict[Effect, list[Observation]] = {effect: [] for effect in effects}
    for found in measured_in(measuring, Stage.ANCHORS, known, batches, effects, units):
        observed[found.effect].append(Observation(found.format, found.minibatch, found.angle()))
    # Sorted: they come in any order from the store and other processes, and sums depend on it.
    return {
        effect: fit(effect, noise[0].kinds, ratios, sorted(seen), len(batches)).weights
        for effect, seen in observed.items()
    }
