"""What was measured on a network: its points, exact angles, and what causes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from predictor.columns import (
    ALONE,
    ANGLE,
    BIAS,
    BIAS_HIGH,
    BIAS_LOW,
    EFFECT,
    FAILURES,
    FORMAT,
    HIGH,
    KIND,
    LAYER,
    LENGTH_RATIO,
    LOSS_RISE,
    LOW,
    PROJECTION,
    SCOPE,
    SHARE,
    WITHOUT,
    N,
)
from predictor.measuring.units import ALL
from reports.tables.cells import bounded, or_dash, with_bounds, with_interval
from reports.tables.layout import Part, plain

if TYPE_CHECKING:
    from predictor.attribution import Estimate


def points(model: str, listed: Sequence[Sequence[str]], skipped: Sequence[Sequence[str]], coverage: str) -> list[Part]:
    """What `predictor.listing.list_points` gave: points, operations without one, and what the points cover."""
    headers = [("layer", "left"), ("operation", "left"), ("shape", "left")]
    return [
        plain(f"{model}: points", [("point", "right"), *headers, ("", "left")], listed),
        plain("no point", [*headers, ("why", "left")], skipped),
        f"{len(listed)} points",
        coverage,
    ]


def measurement(table: pd.DataFrame) -> Part:
    """Rows of `predictor.measure`: angle with its 95% interval, lengths, bias with its interval, what rounding adds
    to the loss."""
    rows = []
    for _, row in table.iterrows():
        failures = str(row[FAILURES]) if row[FAILURES] else ""
        lengths = [or_dash(row[column], ".4f") for column in (PROJECTION, LENGTH_RATIO)]
        rows.append(
            [
                *(row[FORMAT], row[EFFECT], row[SCOPE], bounded(row[ANGLE], row[LOW], row[HIGH], row[N], 4)),
                *(*lengths, with_interval(row, BIAS, BIAS_LOW, BIAS_HIGH), f"{row[LOSS_RISE]:+.4g}"),
                *(str(row[N]), failures),
            ]
        )
    headers = [
        *((name, "left") for name in ("format", "effect", "scope")),
        *(
            (name, "right")
            for name in ("angle (deg)", "projection", "length", "bias", "loss", "mini-batches", "failed")
        ),
    ]
    return plain(None, headers, rows)


def attribution_estimate(model: str, of: Estimate) -> str:
    """What an attribution would take."""
    return (
        f"{model}: {of.points} points; {of.rows} rows, {of.gradients} quantized gradients on {of.minibatches} "
        f"mini-batches; about {of.seconds / 60:.1f} minutes"
    )


def attribution(table: pd.DataFrame, top: int, title: str) -> list[Part]:
    """What `predictor.attribution.attribute` gave: everything, the kinds, the `top` layers with the largest shares."""

    def rows(part: pd.DataFrame) -> list[list[str]]:
        return [
            [
                row[KIND],
                row[LAYER],
                *(with_bounds(row, column) for column in (ALONE, WITHOUT)),
                "-" if pd.isna(row[SHARE]) else f"{100 * row[SHARE]:.1f}%",
                str(row[N]),
            ]
            for _, row in part.iterrows()
        ]

    headers = [
        *((name, "left") for name in ("kind", "layer")),
        *((name, "right") for name in ("alone (deg)", "without (deg)", "share", "mini-batches")),
    ]
    layers = table[table[LAYER] != ALL].sort_values(SHARE, ascending=False, kind="stable").head(top)
    parts: list[Part] = [
        plain(title, headers, rows(table[table[LAYER] == ALL])),
        plain("layers with the largest shares", headers, rows(layers)),
        "alone: nothing else is rounded; without: all else is; means over mini-batches with 95% intervals",
        "share: tan² of the angle alone, over the sum of all kinds or of all layers, which need not be that of all "
        "together; without one part the rest may round otherwise, so that leaving it out can make the angle larger",
    ]
    if not table.attrs["complete"]:
        done = f"{table.attrs['gradients']} quantized gradients were computed"
        parts.append(f"ended early by an interrupt: {done}; finished rows are kept")
    return parts
