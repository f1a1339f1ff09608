"""What a ranking, or recipes, come to, in one sentence: for the terminal, the page and the sidecar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from formats.recipes.presets import BASELINE
from numeric_formats.messages import counted
from predictor.columns import (
    ALL,
    ANGLE_OF_MEAN,
    BITS,
    BY_ANGLE,
    BY_PROJECTION,
    GAP,
    GATES,
    MEAN_RANK,
    NAME,
    PART,
    PRODUCT,
    PROJECTION,
    RANK,
    RECIPE,
    TO_TELL,
    WORST,
    WORST_ON,
    N,
    angle_column,
    n_column,
)
from predictor.effects import Effect, Points, usual_effect
from predictor.recipe_comparison.parts import Part
from reports.tables import cells

NUMBERS = ((PROJECTION, ".4f"), (ANGLE_OF_MEAN, ".3g"))
"""What the verdict of recipes quotes, and how."""
FEWEST = 4
"""Mini-batches that decide something as a rule; with one there is not even an interval."""
NAMED = 4
"""How many formats of one rank are named."""


def verdict(table: pd.DataFrame, settings: Mapping[str, Any], within: float) -> str:
    """The sentence of a ranking.

    Args:
        table: The columns of a ranking, or of one over several networks.
        settings: Those of its sidecar; without any, less is said.
        within: The gap of formats that count as good as float32.

    Returns:
        Which format comes first and whether that is decided, which formats are expected to train as well as float32,
        and with how few bits.
    """
    first = table.iloc[0]
    open_ = [unfinished(settings)] if unfinished(settings) else []
    if MEAN_RANK in table.columns:
        worst = f"{first[angle_column(WORST)]:.3g} degrees, on {first[WORST_ON]}"
        said = f"{first[NAME]} has the smallest mean rank, {first[MEAN_RANK]:.4g}; its largest angle is {worst}"
        return "; ".join([*open_, said])
    return "; ".join(
        [
            *open_,
            _first(table, settings),
            *([_good(table, _order(table, settings), within)] if GAP in table.columns else []),
        ]
    )


def unfinished(settings: Mapping[str, Any]) -> str:
    """How far a ranking that was not finished has come, from the settings of its sidecar; nothing for a finished one,
    and one of which that is not known."""
    if settings.get("complete", True):
        return ""
    measured, of = settings.get("measured"), settings.get("candidates")
    if measured is None or of is None:  # of several networks, or of a search
        return "not finished"
    if not measured:
        return "not finished: nothing was measured yet, all angles are estimates from the noise of one pass"
    return f"not finished: {measured} of {counted(of, 'format')} measured so far"


def undecided(table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """What is not decided and how many more mini-batches would; nothing where the first is told from all others."""
    if len(table) < 2 or not settings:
        return ""
    by, needed, available = (settings.get(key) for key in ("by", "needed", "available"))
    done = int(table.iloc[0].get(n_column(by), 0)) if by else 0
    if done == 1:
        more = f"{FEWEST - 1} more would give intervals" if available is None or available > 1 else "there are no more"
        return f"nothing is decided by 1 mini-batch, {more}"
    others = _not_told(table)
    if not others:
        return ""
    said = f"{table[NAME].iloc[0]} is not told apart from {_listed(others)}"
    if len(others) == len(table) - 1:
        said = f"nothing is decided: {said}"
    return said if needed is None else f"{said}; {_more(table, done, int(needed), available)}"


def _more(table: pd.DataFrame, done: int, needed: int, available: int | None) -> str:
    """What it would take to tell the first from the second."""
    least = "if they differ as much as they do now"
    if available is not None and needed > available:
        return f"{least}, its {available} mini-batches do not suffice to tell it from {table[NAME].iloc[1]}"
    more = f"about {counted(needed - done, 'more mini-batch')}"
    return f"{least}, {more} would tell it from {table[NAME].iloc[1]}"


def _not_told(table: pd.DataFrame) -> list[str]:
    """The formats that share the first's rank."""
    return [str(name) for name in table[NAME][table[RANK] == table[RANK].iloc[0]].iloc[1:]]


def _listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    if len(names) <= NAMED:
        return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"


def of_recipes(table: pd.DataFrame) -> str:
    """The sentence of recipes: which is first beside the baseline, by the number that orders the table, which are as
    good, and what the cheapest does.

    Args:
        table: The columns of `predictor.measure_recipes`.
    """
    whole = table[(table[PRODUCT] == ALL) & (table[PART] == Part.EVERYWHERE)]
    baseline, others = whole[whole[RECIPE] == BASELINE], whole[whole[RECIPE] != BASELINE]
    if not len(others):
        return f"nothing but {BASELINE} was measured"
    first = others.iloc[0]
    by_angle = (whole[RANK] == whole[BY_ANGLE]).all() and not (whole[RANK] == whole[BY_PROJECTION]).all()
    of_angle = f"{first[ANGLE_OF_MEAN]:.3g} degrees"
    of_baseline = [f"{baseline[column].iloc[0]:{form}}" for column, form in NUMBERS] if len(baseline) else []
    if by_angle:
        beside = f" ({BASELINE}: {of_baseline[1]})" if of_baseline else ""
        said = [f"{first[RECIPE]} turns the mean gradient least, by {of_angle}{beside}"]
    else:
        beside = f" ({BASELINE}: {' and '.join(of_baseline)})" if of_baseline else ""
        said = [
            f"{first[RECIPE]} keeps the gradient's length along itself best, {first[PROJECTION]:.4f}, and turns it by "
            f"{of_angle}{beside}"
        ]
    if first[N] == 1:
        said.insert(0, f"nothing is decided by 1 mini-batch, {FEWEST - 1} more would give intervals")
    elif tied := [str(name) for name in others[RECIPE][others[RANK] == first[RANK]].iloc[1:]]:
        said[0] += f", not told apart from {_listed(tied)}"
    other = others[PROJECTION].sub(1).abs() if by_angle else others[ANGLE_OF_MEAN]
    best = others.iloc[int(other.fillna(math.inf).argmin())]
    if best[RECIPE] != first[RECIPE]:
        said.append(
            f"by the {'projection' if by_angle else 'angle'} {best[RECIPE]} is best, {best[PROJECTION]:.4f} and "
            f"{best[ANGLE_OF_MEAN]:.3g} degrees: which of the two trains better is not told"
        )
    if len(baseline) and len(free := others[others[RANK] == baseline[RANK].iloc[0]]):
        said.append(_like_baseline(free, baseline.iloc[0], bool(by_angle)))
    cheapest = others.sort_values(GATES, kind="stable").iloc[0] if others[GATES].notna().any() else first
    if cheapest[RECIPE] != first[RECIPE]:
        said.append(
            f"{cheapest[RECIPE]} has the fewest gates, {cheapest[GATES]:,.0f}, keeps {cheapest[PROJECTION]:.4f} and "
            f"turns it by {cheapest[ANGLE_OF_MEAN]:.3g} degrees"
        )
    return "; ".join(said)


def _like_baseline(recipes: pd.DataFrame, baseline: pd.Series[Any], by_angle: bool) -> str:
    """Which recipes share the baseline's rank, whether the other number tells them from it, and how many more
    mini-batches would."""
    names, done = [str(name) for name in recipes[RECIPE]], int(baseline[N])
    number, other, column = ("angle", "projection", BY_PROJECTION) if by_angle else ("projection", "angle", BY_ANGLE)
    one = len(names) == 1
    said = (
        f"{done} mini-batches do not decide whether {_listed(names)} {'is' if one else 'are'} as good as {BASELINE} by "
        f"the {number}"
    )
    if (recipes[column] != baseline[column]).all():
        said += f", and the {other} tells {'it' if one else 'them'} apart"
    if len(needed := recipes[TO_TELL].dropna() - done):
        least, most = int(needed.min()), int(needed.max())
        count = str(least) if least == most else f"{least} to {most}"
        said += f"; if they differ as much as they do now, about {count} more would"
    return said


def _first(table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Which is first, by how much, and of how many it is not told apart."""
    first, by = table.iloc[0], _order(table, settings)
    angle = first[angle_column(by)]
    if pd.isna(angle):
        return "nothing was measured"
    beside = [
        f"{row[NAME]}: {row[angle_column(by)]:.3g}"
        for row in settings.get("yardsticks", ())
        if row.get(angle_column(by)) is not None
    ]
    compared = f" ({', '.join(beside)})" if beside else ""
    where = " at operands" if settings.get("points") == Points.OPERANDS else ""
    said = f"{first[NAME]} turns the gradient least, by {angle:.3g} degrees of {by}{where}{compared}"
    open_ = undecided(table, settings)
    if open_.startswith("nothing"):
        return f"{said}, but {open_}"
    others = _not_told(table)
    return said + (f", not told apart from {_listed(others)}" if others else "")


def _order(table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """The effect that orders a table, whose angle tells the gap too."""
    by = settings.get("by")
    return str(by) if by and angle_column(by) in table.columns else usual_effect(_effects(table))


def _good(table: pd.DataFrame, by: str, within: float) -> str:
    """How many formats are expected to train as well as float32, and which of them are the narrowest and the
    cheapest."""
    good = table[table[GAP] <= within]
    share, interval = f"within {100 * within:.3g}% by their angle of {by} alone", cells.gap(table.iloc[0])
    if not len(good):
        none = f"none of {len(table)} formats is" if len(table) > 1 else "it is not"
        return f"{none} expected to train as well as float32 {share}; {table[NAME].iloc[0]}'s gap is {interval}"
    some = f"{len(good)} of {len(table)} formats {'is' if len(good) == 1 else 'are'}" if len(table) > 1 else "it is"
    said = f"{some} expected to train as well as float32 {share}"
    narrow = good[good[BITS] == good[BITS].min()]
    if len(narrow) and len(narrow) < len(good):
        said += f", with fewest bits {narrow[NAME].iloc[0]} ({int(narrow[BITS].iloc[0])} bits)"
    if GATES in good and good[GATES].notna().any():
        cheapest = good.sort_values(GATES, kind="stable").iloc[0]
        said += f", with fewest gates {cheapest[NAME]} ({cheapest[GATES]:,.0f})"
    return f"{said} (the first's gap is {interval})"


def _effects(table: pd.DataFrame) -> Sequence[str]:
    found = [effect for effect in Effect if angle_column(effect) in table.columns]
    return found or [WORST]
