"""Does the angle predict training? Formats from all over a ranking are trained, and final losses are set against
angles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd

from formats import Format, get
from formats.lookup import FULL_PRECISION
from formats.pairs import candidate
from formats.recipes.value import uniform
from numeric_formats.checks import one_of
from numeric_formats.progress import Report, quiet
from predictor.columns import ANGLE, BIAS, BITS, NAME, NETWORK_NAME, PROJECTION, angle_column, effects_in
from predictor.effects import Points, usual_effect
from predictor.measuring.store import Store
from predictor.scheme import PAPER, Preset, Scheme, scheme_of
from predictor.statistics import Agreement, agreement, reliability
from training.arguments import train
from training.log import saturation
from training.result import Result
from training.same_seeds import all_trained, beside_full, distance, fixed_choice
from training.settings import TrainingKeywords
from workloads.workload import Workload

SAME = "same"


def spread(ranking: pd.DataFrame, count: int, effect: str) -> list[str]:
    """Names of `count` formats from all over a ranking, shared evenly among its bit widths, narrow ones first.

    Of each width, the smallest and the largest angle are taken, and between them those next to even steps of the
    angle's logarithm, so that all sizes of angle are there, crowded or not; nothing but the ranking decides.

    Args:
        ranking: A row per format with name, bits and angle_<effect>.
        count: How many.
        effect: Whose angle decides.

    Raises:
        ValueError: Where the ranking has too few, or no such angle.
    """
    column = angle_column(effect)
    if column not in ranking:
        known = ", ".join(effects_in(ranking)) or "none"
        raise ValueError(f"the ranking has no angle of effect {effect!r}; it has {known}")
    if not 3 <= count <= len(ranking):
        raise ValueError(f"{count} formats were asked for; a ranking of {len(ranking)} allows 3 to {len(ranking)}")
    # Formats without a width or an angle, as those of one's own may be, stand nowhere among the others.
    ranking = ranking[ranking[BITS].notna() & ranking[column].notna()]
    if len(ranking) < count:
        raise ValueError(f"{count} formats were asked for; {len(ranking)} of the ranking have bits and an angle")
    names: list[str] = []
    widths = sorted(ranking[BITS].unique())
    for number, bits in enumerate(widths):
        share = (count - len(names)) // (len(widths) - number)
        of_width = ranking[ranking[BITS] == bits].sort_values([column, NAME])
        share, left = min(share, len(of_width)), np.log(np.maximum(of_width[column].to_numpy(np.float64), 1e-9))
        for target in np.linspace(left[0], left[-1], share):
            place = int(np.abs(left - target).argmin())
            names.append(str(of_width[NAME].iloc[place]))
            left[place] = np.inf  # taken
    if len(names) < count:
        raise ValueError(
            f"{count} formats were asked for; shared among {len(widths)} bit widths, the ranking gives {len(names)}"
        )
    return names


@dataclass(frozen=True)
class Validation:
    """What a validation gave.

    Attributes:
        runs: A row per training: network, name, bits, angle (degrees), seed, outcome, loss (mean of the last epoch's
            training loss, infinite where the run diverged), metric, full_loss (that of float32 from the same seed), gap
            (loss over full_loss, less 1), and angle_<effect>, projection and bias as the ranking has them.
        agreement: Of the angle and the loss.
        others: Of everything else that the ranking has and the loss, by name.
        reliability: Of the mean loss over seeds (`predictor.statistics.reliability`).
        settings: Plain values.
        coverage: How much of the network the formats' points cover, and whether scales lagged behind, in lines.
    """

    runs: pd.DataFrame
    agreement: Agreement
    others: dict[str, Agreement]
    reliability: float
    settings: dict[str, Any]
    coverage: tuple[str, ...] = ()


def _check_scheme(ranked: Scheme, trained: Scheme) -> None:
    """ValueError where a ranking measured by other rules than training goes by."""
    if ranked.measured != trained.measured:
        given, needed = (f"{of.name}{'' if of.two_terms else ' in one term'}" for of in (ranked, trained))
        raise ValueError(
            f"the ranking is of scheme {given}, the trainings are of scheme {needed}: rank with --scheme "
            f"{trained.name}, train with --scheme {ranked.name}, or say --any-scheme"
        )


def _check_alone(given: Mapping[str, str], scheme: Scheme) -> None:
    """ValueError where more than operands of products would be rounded. given: formats of other tensors."""
    wrong = [f"{key} {format}" for key, format in given.items() if format != FULL_PRECISION]
    if scheme != PAPER:  # the default, which then says nothing
        wrong.append(f"scheme {scheme.name}" if scheme.two_terms else "one term")
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)} with a ranking at operands: its formats are trained as recipes, which round operands "
            "of products alone; leave it out, or rank with --points dataflow"
        )


def validate(
    workload: Workload,
    ranking: pd.DataFrame,
    *,
    output: Path | str,
    count: int = 24,
    formats: Iterable[str] = (),
    seeds: int = 2,
    effect: str | None = None,
    weight: str = FULL_PRECISION,
    gradient: str = FULL_PRECISION,
    master: str = FULL_PRECISION,
    epochs: int = 5,
    exact: Sequence[str] = (),
    points: Points | str = Points.DATAFLOW,
    store: Store | None = None,
    ranked: Scheme | str | None = None,
    progress: Report = quiet,
    **training: Unpack[TrainingKeywords],
) -> Validation:
    """Train formats from all over a ranking from the same seeds, and compare their final losses with their angles.

    A finished training is not done again, one that was ended goes on, and one that another process is at is waited for,
    so several processes can share the work.

    Args:
        workload: What is trained.
        ranking: As `search.rank` gives it: a row per format with name, bits and angle_<effect>.
        output: A folder; every training has its own in it, and the choice is written there before the first.
        count: How many formats `spread` takes. Each is the format of activations and errors, which is what the angle is
            about.
        formats: Names to be trained beside them.
        seeds: Trainings of each format.
        effect: Whose angle is compared, by default the usual one of those it has (`predictor.effects.usual_effect`).
        weight: Format of weights; "same" for the one under test.
        gradient: The same of weight gradients.
        master: The same of master weights and momentum.
        epochs: Of each training.
        exact: Layers that stay in full precision, where the ranking is at operands.
        points: Where the ranking has rounded formats. At operands each is trained as the recipe of that format, and
            weights, their gradients and the optimizer are float32.
        store: As for `train`.
        ranked: The scheme of the ranking, which has to be that of the trainings; None, and a ranking at operands, has
            none.
        progress: Called after every step.
        training: What else `training.train` takes.

    Returns:
        Every training, and how well angle and loss agree.

    Raises:
        ValueError: For a ranking that lacks a format or angle or is of another scheme, for what a ranking at operands
            has no trainings of, and for a folder of another choice; and all that `train` raises.
    """
    trained = scheme_of(
        training.get("scheme", Preset.PAPER), scale=training.get("scale"), two_terms=training.get("two_terms", True)
    )
    at, others_given = one_of("points", Points, points), {"weight": weight, "gradient": gradient, "master": master}
    if at is Points.OPERANDS:
        _check_alone(others_given, trained)
    elif exact:
        raise ValueError("exact layers say where a ranking at operands holds: leave them out, or say points operands")
    elif ranked is not None:
        _check_scheme(scheme_of(ranked), trained)
    output = Path(output)
    if effect is None:
        effect = usual_effect(effects_in(ranking) or ["E"], at)
    chosen = spread(ranking, count, effect)
    angles = dict(zip(ranking[NAME], ranking[angle_column(effect)], strict=True))
    widths = dict(zip(ranking["name"], ranking[BITS], strict=True))
    for name in formats:
        if name not in angles:
            raise ValueError(f"format {name!r} is not in the ranking")
        chosen += [name] if name not in chosen else []
    settings = {
        "workload": workload.name,
        "formats": chosen,
        "effect": effect,
        "weight": weight,
        "gradient": gradient,
        "master": master,
        "epochs": epochs,
        **training,
        **trained.settings,
    }
    if at is Points.OPERANDS:
        settings |= {"points": at.value, "exact": list(exact)}
    # A ranking is data: no name in it runs a file, or leads out of the folder.
    how: dict[str, dict[str, Any]] = {}
    for name in (FULL_PRECISION, *chosen):
        if at is Points.OPERANDS and name != FULL_PRECISION:
            how[name] = {"recipe": uniform(candidate(name, files=False)), "exact": tuple(exact)}
            continue
        own: Format | str = name if name == FULL_PRECISION else get(name, files=False)
        beside = {key: own if given == SAME else given for key, given in others_given.items()}
        how[name] = {"activation": own, "error": own, **beside}
    fixed_choice(output, settings)

    def trained_once(name: str, seed: int, report: Report) -> Result:
        return train(
            workload,
            **how[name],
            epochs=epochs,
            seed=seed,
            output=output / f"{name}-{seed}",
            resume=True,
            store=store,
            progress=report,
            **training,
        )

    # Seed by seed: whoever stops early has compared all formats.
    units = [(name, seed) for seed in range(seeds) for name in how]
    results = all_trained(units, trained_once, progress)
    rows = []
    for name, seed in ((name, seed) for name in chosen for seed in range(seeds)):
        described = {BITS: None if pd.isna(widths[name]) else int(widths[name]), ANGLE: float(angles[name])}
        rows.append({NETWORK_NAME: workload.name, NAME: name, **described, **beside_full(results, name, seed)})
    runs = pd.DataFrame(rows).join(_indicators(ranking), on=NAME)
    by_seed = runs.pivot_table(index=NAME, columns="seed", values="loss", sort=False)
    losses = by_seed.to_numpy()
    others = {
        str(column): agreement(distance(str(column), of_format), losses.tolist())
        for column, of_format in runs.groupby(NAME, sort=False)[list(_indicators(ranking))].first().items()
        if of_format.notna().all()
    }
    return Validation(
        runs,
        agreement([float(angles[name]) for name in by_seed.index], losses.tolist()),
        others,
        reliability(losses),
        settings | {"seeds": seeds},
        (*results[chosen[0], 0].coverage, *_lagged(results)),
    )


def _lagged(results: dict[tuple[str, int], Result]) -> list[str]:
    """What is to be said of trainings whose scales lagged behind."""
    found = [(unit, text) for unit, result in results.items() if (text := saturation(result.steps))]
    return [f"{len(found)} of {len(results)} trainings as {found[0][0][0]}: {found[0][1]}"] if found else []


def _indicators(ranking: pd.DataFrame) -> pd.DataFrame:
    """All that a ranking says of each format that might predict how it trains, by name."""
    wanted = [*(angle_column(effect) for effect in effects_in(ranking)), PROJECTION, BIAS]
    return ranking.set_index(NAME)[[column for column in wanted if column in ranking]]
