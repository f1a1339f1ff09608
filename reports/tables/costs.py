"""Cells of what a multiply-accumulate costs. Nothing heavy is imported: `formats cost` answers at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from predictor.columns import BYTES, ENERGY, GATES, GRANULARITY, NOT_COUNTED

MARK = "†"
"""Stands behind gates that leave something out."""
SCALE_LOGIC = "the logic of a scale that changes within a product (of blocks, tiles, rows)"
"""What gates leave out that were written without a column that says so."""
HEADERS = ((GATES, "right"), ("fJ", "right"), ("bytes", "right"))


def reading(products: int) -> str:
    """What the numbers are of, in sums of so many products."""
    return (
        "gates (NAND2 equivalents) and fJ (45 nm, within a factor of three): of a multiply-accumulate with its share "
        f"of scales, conversion and weight, {products} products a sum; bytes: of memory a value, scale included"
    )


OF_PAIRS = (
    "of a pair F+G: a lane that multiplies F by G, activations by errors, as the products of the backward pass "
    "need; that of the forward pass is F by F (formats cost F), and a lane that they share costs the larger of the two"
)


def not_counted(row: Mapping[str, Any] | Any) -> str:
    """What the gates of a row leave out, in words; nothing where all is counted, or there are none."""
    if _missing(row.get(GATES)):
        return ""
    if NOT_COUNTED not in row:
        return SCALE_LOGIC if "block" in str(row.get(GRANULARITY, "")).split("+") else ""
    return "" if _missing(row[NOT_COUNTED]) else str(row[NOT_COUNTED])


def what_is_marked(rows: Iterable[Any]) -> list[str]:
    """A line that says what the mark behind gates means, where one of the rows has it."""
    found = dict.fromkeys(filter(None, map(not_counted, rows)))
    return [f"{MARK} without {'; '.join(found)}"] if found else []


def cells(row: Mapping[str, Any] | Any) -> list[str]:
    """Gates, marked where they leave something out, femtojoules and bytes a value."""
    marked = _number(row.get(GATES), ".0f") + (MARK if not_counted(row) else "")
    return [marked, _number(row.get(ENERGY), ".0f"), _number(row.get(BYTES), ".4g")]


def _missing(value: Any) -> bool:
    return value is None or value != value


def _number(value: Any, form: str) -> str:
    return "-" if _missing(value) else format(value, form)
