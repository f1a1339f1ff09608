"""Formats: lists of them, what one has to say, what they cost, and how others' roundings compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from formats.description import LISTED, LISTED_STANDARDS
from formats.profile import written
from numeric_formats.messages import counted
from predictor.columns import BYTES, ENERGY, GATES, NOT_COUNTED
from reports.tables.costs import OF_PAIRS, cells, reading, what_is_marked
from reports.tables.layout import Part, plain

if TYPE_CHECKING:
    from formats.conformance.compare import Check
    from formats.hardware.totals import TotalCost

UNLISTED = "posit<n,es>, minifloat(x,y,bias=b), P3109:k.p.{signed,unsigned}.{finite,extended}, INTn/real, LOG4"
"""The standards that have no list, since there are numbers in their names."""
SCALED = (
    "with a scale from the data: E4M3/tensor, /channel, /row, /block128, /tile128x128 (powers of two) and E4M3/real, "
    "E4M3/real/row, ... (any float32 number); so too the other signed ones of at most 16 bits, but for bfloat16"
)
"""What a suffix makes of them."""


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {entry}" for key, entry in value.items()) or "none"
    return "-" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)


def _listed(keys: Sequence[str], rows: Sequence[dict[str, Any]]) -> Part:
    headers = [
        ("format" if key == "name" else key.replace("_", " "), "right" if key in ("bits", "binades") else "left")
        for key in keys
    ]
    return plain(
        None,
        headers,
        [[written(value) if isinstance(value, tuple) else _fact(value) for value in row.values()] for row in rows],
    )


def catalogue(rows: Sequence[dict[str, Any]]) -> list[Part]:
    """What `formats.description.listed` gave."""
    return [_listed(LISTED, rows), counted(len(rows), "format")]


def standards(rows: Sequence[dict[str, Any]]) -> list[Part]:
    """What `formats.description.listed_standards` gave."""
    return [_listed(LISTED_STANDARDS, rows), f"and {UNLISTED}", SCALED, counted(len(rows), "standard")]


def facts(found: dict[str, Any]) -> list[Part]:
    """What `formats.description.describe` gave: facts, then values with their codes."""
    rows = [[key.replace("_", " "), _fact(value)] for key, value in found.items() if key != "values"]
    parts: list[Part] = [plain(found["name"], [("", "left"), ("", "left")], rows)]
    if found["values"] is None:
        return [*parts, f"{found['number_of_values']} values, too many to list"]
    if not found["values"]:
        return parts
    values = [[f"0x{code:02X}", f"{code:0{found['bits']}b}", f"{value:.9g}"] for code, value in found["values"]]
    return [*parts, plain("values", [("code", "left"), ("bits", "left"), ("value", "right")], values)]


def checks(library: str, found: Sequence[Check], details: bool = True) -> list[Part]:
    """What `formats.conformance.compare.verify` gave, a row a rounding, or with details a row a category of it, and how
    many are exact."""
    headers = [
        *((name, "left") for name in ("subject", "format", "category")),
        *((name, "right") for name in ("inputs", "wrong")),
        ("first", "left"),
    ]
    rows = [
        [check.subject, check.format, check.category, str(check.inputs), str(check.mismatches), check.example]
        for check in found
    ]
    if not details:
        headers = [header for header in headers if header[0] != "category"]
        rows = []
        for subject, format in dict.fromkeys((check.subject, check.format) for check in found):
            mine = [check for check in found if (check.subject, check.format) == (subject, format)]
            first = next((check.example for check in mine if check.mismatches), "")
            inputs, missed = (str(sum(getattr(check, of) for check in mine)) for of in ("inputs", "mismatches"))
            rows.append([subject, format, inputs, missed, first])
    wrong = sorted({check.subject for check in found if check.mismatches})
    exact = len({check.subject for check in found}) - len(wrong)
    line = f"{exact} roundings exact, {len(wrong)} not" + (f": {', '.join(wrong)}" if wrong else "")
    return [plain(library, headers, rows), line]


def costs(found: Sequence[tuple[str, TotalCost]], accumulator: str, products: int) -> list[Part]:
    """What a multiply-accumulate of each format costs, part by part, in sums of so many products."""
    rows, described = [], []
    for name, cost in found:
        row = {GATES: cost.total, ENERGY: cost.femtojoules, BYTES: cost.bytes_per_value, NOT_COUNTED: cost.not_counted}
        described.append(row)
        rows.append([name, *(f"{gates:.0f}" for gates in cost.parts.values()), *cells(row)])
    headers = [("format", "left"), *((part, "right") for part in (*found[0][1].parts, "total", "fJ", "bytes"))]
    pairs = [OF_PAIRS] if any("+" in name for name, _ in found) else []
    title = f"NAND2 equivalents, {accumulator} accumulator"
    return [plain(title, headers, rows), reading(products), *pairs, *what_is_marked(described)]
