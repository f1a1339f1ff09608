"""From what a user has (result files, tensors, folders of training runs, formats' names) to a picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from numeric_formats.checks import at_least, one_of
from numeric_formats.files import TENSORS
from numeric_formats.messages import counted
from predictor.columns import (
    ALL,
    ANGLE,
    ANGLE_OF_MEAN,
    BIAS,
    BITS,
    DRAWS,
    EFFECT,
    FAMILY,
    FORMAT,
    GAP,
    GATES,
    HIGH,
    HIGH_OF_MEAN,
    KEPT,
    LAYER,
    LOW,
    LOW_OF_MEAN,
    NAME,
    NETWORK_NAME,
    PART,
    PRODUCT,
    RANK,
    RECIPE,
    ROLE,
    SCOPE,
    N,
    angle_column,
    difference_columns,
    effects_in,
    high_column,
    low_column,
    source_column,
)
from predictor.effects import Effect, check_effects
from predictor.recipe_comparison.parts import Part
from predictor.risk import WITHIN, bundled_trainings, risk_of
from reports import results
from reports.plots import attributions, precision, rankings, recipes, training
from reports.plots.style import fitted, untitled, width_of


class Kind(StrEnum):
    """What a picture shows.

    Of a ranking: angles, top, bars, pareto. Of a measurement: bars, by layer layers. Of an attribution: layers. Of a
    search: synthesized. Of a table of recipes: recipes, products, kept. Of a validation's runs.csv: validation, gap. Of
    training runs' folders: flips, oscillation. Of tensors and formats: histograms. Of formats alone: profiles.
    """

    ANGLES = "angles"
    TOP = "top"
    BARS = "bars"
    PARETO = "pareto"
    LAYERS = "layers"
    SYNTHESIZED = "synthesized"
    RECIPES = "recipes"
    PRODUCTS = "products"
    KEPT = "kept"
    VALIDATION = "validation"
    GAP = "gap"
    FLIPS = "flips"
    OSCILLATION = "oscillation"
    HISTOGRAMS = "histograms"
    PROFILES = "profiles"


OF_RUNS = (Kind.FLIPS, Kind.OSCILLATION)
"""Drawn of the folders of trainings."""


def kind_of(given: Sequence[Path], kind: str | None, names: Sequence[str]) -> Kind:
    """The kind of picture that is meant.

    Args:
        given: Files or folders.
        kind: Its name; by default what is drawn of a folder, tensors, or formats alone, the angles of a table, the
            first of a ranking by one effect, and of recipes what is kept, else products of layers, else all recipes.
        names: Formats.

    Returns:
        The kind.

    Raises:
        ValueError: There is no such kind, or it is not made of what was given.
    """
    meant = None if kind is None else one_of("kind", Kind, kind)
    if not given:
        if not names:
            raise ValueError("nothing to draw was given: name a result, or formats with --profiles")
        usual = Kind.PROFILES
    elif given[0].is_dir():
        usual = Kind.FLIPS
    else:
        usual = Kind.HISTOGRAMS if given[0].suffix.lower() in TENSORS else _usual_of(given[0])
    meant = meant or usual
    needs = {
        Kind.PROFILES: "formats, with --profiles, and no result",
        **dict.fromkeys(OF_RUNS, "folders that `formats train` wrote"),
        Kind.HISTOGRAMS: f"one file of tensors ({', '.join(TENSORS)})",
    }
    if len(given) > 1 and usual is not Kind.FLIPS:
        raise ValueError(
            f"{len(given)} results, of which {given[0]} is no folder: one result is drawn, or folders of training runs"
        )
    if needs.get(meant) != needs.get(usual):
        what = ", ".join(map(str, given)) or "formats alone"
        raise ValueError(f"{meant} are drawn of {needs.get(meant, 'one result file')}; given: {what}")
    if bool(names) != (meant in (Kind.PROFILES, Kind.HISTOGRAMS)):
        raise ValueError("--profiles are drawn alone, or over tensors from " + ", ".join(TENSORS) + ", which need them")
    return meant


def _usual_of(path: Path) -> Kind:
    """Of a table; what cannot be read is refused when it is drawn."""
    with suppress(ValueError, OSError):
        table = results.read(path)
        if {RECIPE, PART} <= set(table.columns):
            layers = table[table[LAYER] != ALL]
            kinds = {Kind.KEPT: layers[PART] == Part.KEPT, Kind.PRODUCTS: layers[PRODUCT] != ALL}
            return next((kind for kind, rows in kinds.items() if rows.any()), Kind.RECIPES)
        if RANK in table and not set(columns_of(Kind.ANGLES, Effect.E)) <= set(table.columns):
            return Kind.TOP if NAME in table and effects_in(table.columns) else Kind.ANGLES
    return Kind.ANGLES


def default_target(given: Sequence[Path], kind: Kind) -> Path:
    """Where a picture goes that no --output names: beside what it shows, or inside it.

    Args:
        given: Files or folders.
        kind: Of the picture.

    Returns:
        A .png.

    Raises:
        ValueError: It shows several runs.
    """
    if kind is Kind.PROFILES:
        return Path("profiles.png")
    if len(given) > 1:
        raise ValueError(f"{len(given)} runs: say with --output where their plot goes")
    return given[0] / f"{kind}.png" if kind in OF_RUNS else given[0].with_suffix(".png")


def columns_of(kind: Kind, by: str) -> tuple[str, ...]:
    """What a table must hold to be drawn so."""
    angle = (angle_column(by), low_column(by), high_column(by))
    both = (angle_column("E"), angle_column("A"), source_column("E"), source_column("A"))
    of_recipes = (RECIPE, PRODUCT, LAYER, PART, ANGLE_OF_MEAN, LOW_OF_MEAN, HIGH_OF_MEAN, BIAS, DRAWS)
    return {
        Kind.RECIPES: of_recipes,
        Kind.PRODUCTS: of_recipes,
        Kind.KEPT: (*of_recipes, KEPT),
        Kind.ANGLES: (NAME, BITS, FAMILY, *both),
        Kind.BARS: (NAME, *angle),
        Kind.TOP: (RANK, NAME, BITS, *angle, source_column(by)),
        Kind.PARETO: (NAME, BITS, GATES, angle_column(by), source_column(by)),
        Kind.SYNTHESIZED: (NAME, ROLE, *difference_columns(by)),
        Kind.VALIDATION: ("name", "bits", "angle", "outcome", "loss", "metric"),
        Kind.GAP: (NETWORK_NAME, NAME, GAP, angle_column(by)),
    }.get(kind, ())


def draw(
    given: Sequence[Path],
    kind: Kind,
    names: Sequence[str] = (),
    by: str | None = None,
    count: int = 20,
    within: float = WITHIN,
    labels: Sequence[str] = (),
    width: float | None = None,
    title: bool = True,
) -> Figure:
    """The picture of a kind.

    Args:
        given: Files or folders, as `kind_of` wants them.
        kind: Of the picture.
        names: The formats of profiles and histograms.
        by: The effect of top, pareto and synthesized; by default the one that orders the table.
        count: How many formats top and bars draw.
        within: The gap of formats that count as good as float32.
        labels: Formats of a ranking that get their name before others do.
        width: Of the picture in inches; by default 8 or so.
        title: Whether it has one.

    Returns:
        The figure, for `style.save`.

    Raises:
        ValueError: A file is damaged or of something else, or the count is below 1.
    """
    at_least(f"the first {count} formats", count)
    with width_of(width):
        figure = fitted(_drawn(given, kind, names, by, count, within, labels))
    return figure if title else untitled(figure)


def _measured_bars(path: Path, measured: pd.DataFrame, count: int) -> Figure:
    """The bars of what `formats measure` wrote."""
    results.check_columns(path, measured, (FORMAT, EFFECT, SCOPE, ANGLE, LOW, HIGH, N))
    table = results.effects_across(measured)
    if table.empty:
        raise ValueError(f"{path} has no angle over all layers; --kind layers draws those of each")
    settings = results.sidecar(path).get("settings", {})
    network, minibatches = results.network_of(settings, path), int(measured[N].max())
    title = f"{network}: angles of {counted(min(count, len(table)), 'format')}, {counted(minibatches, 'mini-batch')}"
    return rankings.bars(
        table.head(count), effects_in(table.columns), title, settings.get("yardsticks", ()), minibatches
    )


def _drawn(
    given: Sequence[Path],
    kind: Kind,
    names: Sequence[str],
    by: str | None,
    count: int,
    within: float,
    labels: Sequence[str],
) -> Figure:
    if kind is Kind.PROFILES:
        return precision.profiles(precision.profiles_of(names), "significant bits by binade")
    first = given[0]
    if kind in OF_RUNS:
        from reports import runs  # with torch, which takes longer to load than other pictures to draw

        what = training.FLIPS if kind is Kind.FLIPS else training.OSCILLATION
        table, workloads = runs.read_flips(given, what.column)
        return training.flips(table, f"{', '.join(workloads)}: {what.title}", what)
    if kind is Kind.HISTOGRAMS:
        from search.fitting import read_dump

        dump = read_dump(first)
        tensors = {name: tensor.numpy() for name, tensor in dump.tensors.items()}
        beside = "".join(f"; {what}" for what in (*dump.assumed, *(f"without {name}" for name in dump.left_out)))
        return precision.histograms(
            tensors, precision.profiles_of(names), f"{first.stem}: elements and precision by binade{beside}"
        )
    table = results.read(first)
    if kind is Kind.BARS and FORMAT in table:
        return _measured_bars(first, table, count)
    if by is None:
        by = results.ordering_effect(first, table) if effects_in(table.columns) else Effect.E
    results.check_columns(first, table, columns_of(kind, by))
    settings = results.sidecar(first).get("settings", {})
    network = results.network_of(settings, first)
    if NAME in table and labels:
        known = {*table[NAME], *(row[NAME] for row in settings.get("yardsticks", ()))}
        if missing := [name for name in labels if name not in known]:
            raise ValueError(f"--label {', '.join(missing)}: not in {first}; names of it are such as {table[NAME][0]}")
    count_of = settings.get("minibatches")
    count_of = count_of if isinstance(count_of, int) else None
    over = "" if count_of is None else f", {counted(count_of, 'mini-batch')}"
    if kind in (Kind.TOP, Kind.BARS):
        all_of = counted(len(table), "format")
        shown = f"{network}: the first {min(count, len(table))} of {all_of} by {settings.get('by', by)}{over}"
        if kind is Kind.TOP:
            return rankings.top(table, by, count, shown, within, count_of)
        first_rows, beside = table.head(count), settings.get("yardsticks", ())
        return rankings.bars(first_rows, effects_in(table.columns), shown, beside, count_of)
    if kind is Kind.PARETO:
        return rankings.pareto_front(
            table, by, f"{network}: angle of {by} against cost{over}", within, labels, count_of
        )
    if kind is Kind.LAYERS:
        if EFFECT in table:
            shows = f"angle of {', '.join(table[EFFECT].unique())} by layer"
        else:
            shows = f"what causes the angle of {', '.join(settings.get('formats', ['a format']))}, by layer"
        return attributions.layers(table, f"{network}: {shows}{over}")
    if kind is Kind.RECIPES:
        return recipes.plane(table, f"{network}: what recipes do to the gradient{over}")
    if kind is Kind.PRODUCTS:
        return recipes.products(table, f"{network}: angle by product of a layer{over}")
    if kind is Kind.KEPT:
        return recipes.kept(table, f"{network}: what is kept and what it gains{over}")
    if kind is Kind.SYNTHESIZED:
        return precision.synthesized(table, by, f"{network}: synthesized and known formats{over}")
    if kind is Kind.GAP:
        trainings = pd.concat([bundled_trainings(), table])
        risk = risk_of(trainings, check_effects([by])[0])
        return training.gap_against_angle(trainings, risk, f"{network}: how much worse a format trains")
    if kind is Kind.VALIDATION:
        return training.loss_against_angle(table, f"{network}: loss against angle;", settings.get("effect", ""))
    return rankings.error_against_activation(
        table, f"{network}: {counted(len(table), 'format')}{over}", labels, settings.get("yardsticks", ()), count_of
    )
