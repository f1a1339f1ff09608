"""Formats that were made for a network, for its layers, or for dumped tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from numeric_formats.messages import counted
from predictor.columns import (
    BITS,
    ELEMENTS,
    FRONT,
    GATES,
    LAYER,
    NAME,
    NSR_MEAN,
    NSR_WORST,
    RANK,
    ROLE,
    SCORE,
    WORST,
    angle_column,
    difference_columns,
    effects_in,
)
from reports.tables.cells import or_dash
from reports.tables.layout import Part, plain

if TYPE_CHECKING:
    from search.fitting import Dump, Fit
    from search.settings import LayersSettings, SearchSettings
    from search.table import Ranking

SYNTHESIZED = "synthesized"
READING = (
    "less: the paired difference over mini-batches, mean ± 95% half-width; equal ranks are ties; "
    "headroom, scores and intervals: --output"
)


def search(model: str, found: Ranking[SearchSettings], kept: str) -> list[Part]:
    """Synthesized and known formats beside each other. kept: what becomes of measurements."""
    of = found.settings
    title = f"{model}: {of.bits}-bit formats by the angle of {found.by} in degrees, on {of.minibatches} mini-batches"
    parts: list[Part] = [_search(found.table, of.reference, title), READING]
    if not of.held_out:
        parts.append(
            "there were too few mini-batches: the formats were made for some of those that they are measured on"
        )
    if not found.complete:
        parts.append(f"ended early by an interrupt: {of.gradients} measurements were made and {kept}")
    return parts


def _search(table: pd.DataFrame, reference: str, title: str) -> Part:
    """For each effect the angle and its paired difference from the reference's, in degrees; gates, with * on the front
    of angle and gates, where there are any."""
    effects = effects_in(table.columns)
    headers = [(RANK, "right"), ("format", "left")]
    for effect in effects:
        headers += [(effect, "right"), (f"less {reference}", "right")]
    rows = []
    for _, row in table.iterrows():
        cells = [str(row[RANK]), str(row[NAME])]
        for effect in effects:
            column, _, upper = difference_columns(effect)
            angle, difference, high = row[angle_column(effect)], row[column], row[upper]
            half = "" if pd.isna(high) else f" ± {high - difference:.3f}"
            less = f"{difference:+.3f}{half}" if row[NAME] != reference else ""
            cells += ["-", "-"] if pd.isna(angle) else [f"{angle:.3f}", less]
        if GATES in table.columns:
            cells.append("-" if pd.isna(row[GATES]) else f"{row[GATES]:.0f}{'*' if row[FRONT] else ' '}")
        rows.append([*cells, str(row[ROLE])])
    gates = [(GATES, "right")] if GATES in table.columns else []
    return plain(title, [*headers, *gates, (ROLE, "left")], rows)


def layers(model: str, table: pd.DataFrame, of: LayersSettings) -> Part:
    """A format for each layer."""
    average = (table[BITS] * table[ELEMENTS]).sum() / table[ELEMENTS].sum()
    title = f"{model}: a format for each layer by {of.effect}, {average:.3f} bits on average; predicted, not measured"
    headers = [(LAYER, "left"), ("format", "left"), (BITS, "right"), (ELEMENTS, "right"), (SCORE, "right")]
    columns = zip(*(table[name] for name in (LAYER, NAME, BITS, ELEMENTS, SCORE)), strict=True)
    rows = [[layer or "(network)", name, str(bits), str(n), f"{score:.3g}"] for layer, name, bits, n, score in columns]
    return plain(title, headers, rows)


def fit(file: str, found: Fit, bits: int, top: int) -> list[Part]:
    """The first `top` formats on tensors, and the best profile for these."""
    headers = [
        *((RANK, "right"), ("format", "left"), (BITS, "right")),
        *(("mean NSR", "right"), ("worst NSR", "right"), (WORST, "left"), ("", "left")),
    ]
    rows = [
        [
            *(str(row[RANK]), str(row[NAME]), or_dash(row[BITS])),
            *(f"{row[NSR_MEAN]:.4g}", f"{row[NSR_WORST]:.4g}", str(row[WORST])),
            row[ROLE] if row[ROLE] == SYNTHESIZED else "",
        ]
        for _, row in found.table.head(top).iterrows()
    ]
    best = found.table[found.table[ROLE] == SYNTHESIZED].iloc[0]
    known = f"mean NSR {best[NSR_MEAN]:.4g}, rank {best[RANK]}"
    parts: list[Part] = [
        plain(f"{file}: {counted(len(found.table), 'format')} on {counted(found.tensors, 'tensor')}", headers, rows),
        f"the best {bits}-bit profile for these tensors: {best[NAME]} ({known})",
    ]
    if found.zero:
        parts.append(f"left out, nothing but zeros: {', '.join(found.zero)}")
    if found.ignored:
        parts.append(f"NaN and infinite elements, read as zero: {found.ignored}")
    return parts


def dump(found: Dump) -> list[Part]:
    """What a file of tensors holds beside them."""
    parts: list[Part] = []
    if found.left_out:
        parts.append(f"left out, no floating-point numbers: {', '.join(found.left_out)}")
    if found.assumed:
        parts.append(f"of a type that numpy does not keep: {', '.join(found.assumed)}")
    return parts
