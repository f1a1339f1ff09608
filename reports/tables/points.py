"""Where a network's data flow is rounded: its points, and what has none; equal layers in one row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.tables.layout import Part, plain

HEADERS = [("layer", "left"), ("operation", "left"), ("shape", "left")]
FEW = 3
"""So many points of equal layers are named one by one."""


@dataclass(frozen=True)
class _Row:
    """What several points have in common.

    Attributes:
        places: Which they are.
        layer: The parts of the layer's name; of equal layers, numbers are ranges.
        rest: The other cells.
    """

    places: tuple[int, ...]
    layer: tuple[str, ...]
    rest: tuple[str, ...]


def tables_of(
    model: str, listed: Sequence[Sequence[str]], skipped: Sequence[Sequence[str]], coverage: str, long: bool = False
) -> list[Part]:
    """What `predictor.listing.list_points` gave: points, operations without one, and what the points cover.

    Args:
        model: Above the table.
        listed: Points.
        skipped: What has none.
        coverage: The last line.
        long: A row for each, not for all layers that differ in a number of their name alone.
    """
    if not long:
        found = _grouped([_Row((int(place),), tuple(layer.split(".")), tuple(rest)) for place, layer, *rest in listed])
        others = _grouped(
            [_Row((place,), tuple(layer.split(".")), tuple(rest)) for place, (layer, *rest) in enumerate(skipped)]
        )
        shown = [[_named(row.places), ".".join(row.layer), *row.rest] for row in found]
        times = any(len(row.places) > 1 for row in others)
        below = [
            [".".join(row.layer), *row.rest, *([f"{len(row.places)} times"] if len(row.places) > 1 else [""] * times)]
            for row in others
        ]
        grouped = len(shown) < len(listed) or len(below) < len(skipped)
    else:
        shown, below, times, grouped = [list(row) for row in listed], [list(row) for row in skipped], False, False
    more = "; equal layers in one row, --long has a row each" if grouped else ""
    return [
        plain(f"{model}: points", [("point", "right"), *HEADERS, ("", "left")], shown),
        plain("no point", [*HEADERS, ("why", "left"), *([("", "right")] if times else [])], below),
        f"{len(listed)} points{more}",
        coverage,
    ]


def _grouped(rows: Sequence[_Row]) -> list[_Row]:
    """Rows whose layers differ in one number of their names, and in nothing else, as one; number after number."""
    found = list(rows)
    for depth in range(max((len(row.layer) for row in rows), default=0)):
        groups: dict[object, list[_Row]] = {}
        for row in found:
            number = len(row.layer) > depth and row.layer[depth].isdecimal()
            key = (row.layer[:depth], row.layer[depth + 1 :], row.rest, number or row.layer[depth : depth + 1])
            groups.setdefault(key, []).append(row)
        found = [_one(group, depth) for group in groups.values()]
    return sorted(found, key=lambda row: row.places)


def _one(group: Sequence[_Row], depth: int) -> _Row:
    if len(group) == 1:
        return group[0]
    numbers = {row.layer[depth] for row in group if len(row.layer) > depth}
    layer = group[0].layer
    if len(numbers) > 1:
        layer = (*layer[:depth], _ranges(sorted(map(int, numbers))), *layer[depth + 1 :])
    return _Row(tuple(sorted(place for row in group for place in row.places)), layer, group[0].rest)


def _ranges(numbers: Iterable[int]) -> str:
    """Whole numbers, those that follow each other by their ends."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _named(places: Sequence[int]) -> str:
    if len(places) <= FEW:
        return ", ".join(map(str, places))
    return f"{places[0]}, {places[1]}, ... {places[-1]} ({len(places)})"
