"""How stable a ranking is: two rankings of the same formats, from other weights, seeds or data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from predictor.columns import NAME, angle_column
from predictor.effects import Points
from predictor.statistics import Agreement, agreement_of_pairs
from reports import results

TOPS = (1, 5, 10, 20, 50)


@dataclass(frozen=True)
class Comparison:
    """Two rankings side by side.

    Attributes:
        effect: Whose angle was compared.
        table: A row per format that both hold, in the order of the first: name, place_a, place_b (1 is best, among
            these formats), change (of the place; negative is better in the second), angle_a, angle_b (degrees).
        agreement: Rank correlations of the angles.
        overlap: For each k, how many of the first k are the same.
        left_out: Names that only one holds, or that mean another format in each.
        points: Where each rounded its formats.
    """

    effect: str
    table: pd.DataFrame
    agreement: Agreement
    overlap: dict[int, int]
    left_out: list[str]
    points: tuple[Points, Points]


def _digests(path: Path) -> dict[str, str]:
    found = results.sidecar(path).get("settings", {}).get("formats", {})
    return found if isinstance(found, dict) else {}  # of another kind of result


def compare(first: Path, second: Path, effect: str | None = None, seed: int = 0) -> Comparison:
    """Compare two files that `formats rank --output` wrote.

    Args:
        first: A ranking.
        second: Another one.
        effect: Whose angle is compared; by default the one that orders the first.
        seed: Decides the bootstrap.

    Returns:
        Both side by side.

    Raises:
        ValueError: One has no such angle, or fewer than 3 formats are common to both.
    """
    if effect is None:
        effect = results.ordering_effect(first, results.read(first, (NAME,)))
    column = angle_column(effect)
    a, b = (results.read(path, (NAME, column)).set_index(NAME)[column].dropna() for path in (first, second))
    for path, angles in ((first, a), (second, b)):
        if not angles.index.is_unique:
            raise ValueError(f"{path} holds {angles.index[angles.index.duplicated()][0]} twice")
    one, other = _digests(first), _digests(second)
    common = [
        name
        for name in a.index.intersection(b.index)
        if name not in one or name not in other or one[name] == other[name]
    ]
    if len(common) < 3:
        raise ValueError(f"{first} and {second} have {len(common)} formats in common; at least 3 are needed")
    table = pd.DataFrame(
        {"name": common, "angle_a": a[common].to_numpy(np.float64), "angle_b": b[common].to_numpy(np.float64)}
    )
    for side in "ab":
        table[f"place_{side}"] = table[f"angle_{side}"].rank(method="first").astype(int)
    table["change"] = table["place_b"] - table["place_a"]
    table = table.sort_values("place_a", ignore_index=True)[
        ["name", "place_a", "place_b", "change", "angle_a", "angle_b"]
    ]
    found = agreement_of_pairs(table["angle_a"].to_numpy(), table["angle_b"].to_numpy(), seed)
    overlap = {k: int(((table["place_a"] <= k) & (table["place_b"] <= k)).sum()) for k in TOPS if k <= len(common)}
    left_out = sorted(set(a.index).symmetric_difference(b.index) | (set(a.index) - set(common)))
    at = [results.points_of(results.sidecar(path).get("settings", {})) for path in (first, second)]
    return Comparison(effect, table, found, overlap, left_out, (at[0], at[1]))


def facts(found: Comparison) -> dict[str, Any]:
    """All of a comparison as plain values; NaN as None."""
    numbers = {key: None if value != value else value for key, value in vars(found.agreement).items()}
    return {
        "effect": found.effect,
        **numbers,
        "overlap": {str(k): count for k, count in found.overlap.items()},
        "left_out": found.left_out,
        "points": [at.value for at in found.points],
        "table": found.table.to_dict("records"),
    }
