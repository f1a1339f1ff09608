"""What was measured on a network: exact angles, and what causes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from numeric_formats.messages import counted, lasting
from predictor.columns import (
    ALL,
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
    MODULE,
    PROJECTION,
    SCOPE,
    SHARE,
    WITHOUT,
    N,
    angle_column,
    high_column,
    low_column,
)
from predictor.effects import Points
from predictor.keeping import CHOSEN, GAIN, GAIN_HIGH, GAIN_LOW, STAYS, STEP
from predictor.risk import bundled_risk
from reports.tables import costs
from reports.tables.cells import bounded, gap_at, or_dash, wide, with_bounds, with_interval
from reports.tables.layout import Part, plain
from search.table import cost_of

if TYPE_CHECKING:
    from predictor.attribution import Estimate
    from predictor.scheme import Scheme


READING = "angles in degrees with 95% intervals; ~ on fewer mini-batches"
FAILED = "failed: how many gradients were 0 or not finite, which count as 90 degrees"


def formats_by_effects(
    table: pd.DataFrame, title: str, beside: pd.DataFrame | None, products: int | None, points: Points, scheme: Scheme
) -> list[Part]:
    """Rows of `predictor.measure`, one a format and scope, effects across.

    beside: other rows, for formats that they are held against. products: of a sum, where their cost is a
    column. points, scheme: where and by which rules they were rounded.
    """
    effects = list(dict.fromkeys(table[EFFECT]))
    several = table[SCOPE].nunique() > 1
    whole = not several and table[SCOPE].iloc[0] == ALL
    risk = bundled_risk(effects, points, scheme) if whole else None
    minibatches = int(table[N].max())

    def row(of: pd.DataFrame, name: str, scope: str) -> list[str]:
        by_effect = {row[EFFECT]: row for _, row in of.iterrows()}
        cells = [name, *([scope] if several else [])]
        for effect in effects:
            at = by_effect[effect]
            fewer = at[N] < minibatches
            cells.append(f"~{at[ANGLE]:.3g}" if fewer else bounded(at[ANGLE], at[LOW], at[HIGH], at[N]))
        if risk is not None:
            cells.append(gap_at(risk, by_effect[risk.indicator][ANGLE]))
        if products:
            cells += costs.cells(cost_of(name, products))
        return [*cells, str(sum(at[FAILURES] for at in by_effect.values()) or "")]

    def rows(part: pd.DataFrame) -> list[list[str]]:
        return [row(of, str(name), str(scope)) for (name, scope), of in part.groupby([FORMAT, SCOPE], sort=False)]

    headers = [
        *(("format", "left"), *([("scope", "left")] if several else [])),
        *((f"angle {effect}", "right") for effect in effects),
        *([("gap", "right")] if risk is not None else []),
        *(costs.HEADERS if products else ()),
        ("failed", "right"),
    ]
    own = rows(table)
    others = [] if beside is None or beside.empty else rows(beside)
    ruled = [len(own) - 1] if others else []
    names = dict.fromkeys([*table[FORMAT], *([] if beside is None else beside[FORMAT])])
    told = [costs.reading(products), *costs.what_is_marked(map(cost_of, names))] if products else []
    narrow = wide(zip(*(table[name] for name in (ANGLE, LOW, HIGH, N)), strict=True))
    failed = any(line[-1] for line in own + others)
    if not failed:
        headers, own, others = headers[:-1], [line[:-1] for line in own], [line[:-1] for line in others]
    return [plain(title, headers, [*own, *others], ruled), READING, *told, *narrow, *([FAILED] if failed else [])]


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


def kept_layers(table: pd.DataFrame, title: str) -> list[Part]:
    """What `predictor.keeping.keep` gave, and what to type with it."""
    rows = [
        [
            *(str(row[STEP]), row[LAYER] or "(nothing kept)", row[MODULE]),
            "" if not row[STEP] else "yes" if row[STAYS] else "no",
            "-" if pd.isna(row[SHARE]) else f"{100 * row[SHARE]:.1f}%",
            bounded(row[ANGLE], row[LOW], row[HIGH], row[N]),
            with_interval(row, GAIN, GAIN_LOW, GAIN_HIGH) if row[STEP] else "",
        ]
        for _, row in table.iterrows()
    ]
    headers = [
        *((STEP, "right"), (LAYER, "left"), (MODULE, "left"), (STAYS, "left")),
        *((name, "right") for name in ("share alone", f"angle {table.attrs[EFFECT]}", GAIN)),
    ]
    chosen = table.attrs[CHOSEN]
    paste = " ".join(f"--exact {name}" for name in chosen) if chosen else "no layer made the angle smaller"
    stays, minibatches = table[table[STAYS]], int(table[N].iloc[0])
    open_ = stays[~(stays[GAIN_LOW] > 0)][LAYER].tolist()  # also where there is no interval
    return [
        plain(title, headers, rows),
        "angle in degrees with 95% interval, with this layer and those kept before it in full precision; a layer that "
        "did not make it smaller is not kept; gain: by how much smaller it is than without this layer, mini-batch by "
        "mini-batch; share: tan² of the angle of this layer alone, over the sum of all",
        *(
            [
                f"not decided on {counted(minibatches, 'mini-batch')} whether keeping {', '.join(open_)} "
                f"gains anything; --minibatches {2 * minibatches} would tell more"
            ]
            if open_
            else []
        ),
        paste,
    ]


def attribution_estimate(model: str, of: Estimate) -> str:
    """What an attribution would take."""
    return (
        f"{model}: {of.points} points; {of.rows} rows, {counted(of.gradients, 'quantized gradient')} on "
        f"{counted(of.minibatches, 'mini-batch')}; about {lasting(of.seconds)}"
    )


def attribution(table: pd.DataFrame, top: int, title: str) -> list[Part]:
    """What `predictor.attribution.attribute` gave: everything, the kinds, the `top` layers with the largest shares."""

    def rows(part: pd.DataFrame, modules: bool) -> list[list[str]]:
        return [
            [
                *(row[KIND], row[LAYER], *([row[MODULE]] if modules else [])),
                *(with_bounds(row, column) for column in (ALONE, WITHOUT)),
                "-" if pd.isna(row[SHARE]) else f"{100 * row[SHARE]:.1f}%",
                str(row[N]),
            ]
            for _, row in part.iterrows()
        ]

    numbers = [(name, "right") for name in ("alone (deg)", "without (deg)", "share", "mini-batches")]
    layers = table[table[LAYER] != ALL].sort_values(SHARE, ascending=False, kind="stable").head(top)
    parts: list[Part] = [
        plain(title, [*((name, "left") for name in (KIND, LAYER)), *numbers], rows(table[table[LAYER] == ALL], False)),
        plain(
            "layers with the largest shares",
            [*((name, "left") for name in (KIND, LAYER, MODULE)), *numbers],
            rows(layers, True),
        ),
        "alone: nothing else is rounded; without: all else is; means over mini-batches with 95% intervals",
        "share: tan² of the angle alone, over the sum of all kinds or of all layers, which need not be that of all "
        "together; without one part the rest may round otherwise, so that leaving it out can make the angle larger",
    ]
    shown = pd.concat([table[table[LAYER] == ALL], layers])
    parts += wide(
        zip(*(shown[name] for name in (angle_column(ALONE), low_column(ALONE), high_column(ALONE), N)), strict=True)
    )
    if not table.attrs["complete"]:
        done = f"{table.attrs['gradients']} quantized gradients were computed"
        parts.append(f"ended early by an interrupt: {done}; finished rows are kept")
    return parts
