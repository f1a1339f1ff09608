"""Recipes in the report: their table, what does not average out against the angle, and products of layers."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from formats.recipes.presets import BASELINE
from formats.recipes.value import Product
from numeric_formats.messages import counted
from predictor.columns import (
    ALL,
    ANGLE,
    ANGLE_OF_MEAN,
    BIAS,
    BIAS_HIGH,
    BIAS_LOW,
    DRAWS,
    GATES,
    HIGH,
    HIGH_OF_MEAN,
    KEPT,
    LAYER,
    LOSS_RISE,
    LOW,
    LOW_OF_MEAN,
    PART,
    PRODUCT,
    PROJECTION,
    RANK,
    RECIPE,
    SHARE,
    N,
)
from predictor.recipe_comparison.parts import Order, Part
from predictor.recipe_comparison.table import COLUMNS, LATER
from reports.page.parts import SOURCE, Section, embedded, plain
from reports.tables.cells import bounded, or_dash, projection, with_interval
from reports.tables.recipes import RANKED_BY, as_measured
from reports.verdicts import of_recipes

MEANINGS = {
    "angle": "by how many degrees a recipe turns the weight gradient; less is better",
    "of the mean": "that of the mean over many draws of random numbers, whose noise averages out",
    "projection": "how much of the gradient's length is left along its direction; 1 is all. Its distance from 1 orders "
    "the table, unless another order was asked for",
    "bias": "what does not average out over mini-batches, over a mini-batch's own noise",
    "loss": "what is added to the loss before any training",
}
"""What a page's words mean."""
WIDE = ("angle", "projection", "bias", "loss", "share", "gates")
"""Columns that a narrow screen leaves out."""


def _cells(row: pd.Series[Any]) -> dict[str, tuple[Any, str]]:
    """By column, what a row is sorted by and what is read."""
    number: float = row[N]
    return {
        "rank": (plain(row[RANK]), "" if pd.isna(row[RANK]) else f"{row[RANK]:.0f}"),
        "recipe": (row[RECIPE], row[RECIPE]),
        "of the mean": (
            plain(row[ANGLE_OF_MEAN]),
            bounded(row[ANGLE_OF_MEAN], row[LOW_OF_MEAN], row[HIGH_OF_MEAN], number),
        ),
        "angle": (plain(row[ANGLE]), bounded(row[ANGLE], row[LOW], row[HIGH], number)),
        "projection": (plain(row[PROJECTION]), projection(row)),
        "bias": (plain(row[BIAS]), with_interval(row, BIAS, BIAS_LOW, BIAS_HIGH)),
        "loss": (plain(row[LOSS_RISE]), f"{row[LOSS_RISE]:+.4g}"),
        "share": (plain(row[SHARE]), f"{100 * row[SHARE]:.1f}%"),
        "gates": (plain(row[GATES]), or_dash(row[GATES], ",.0f")),
    }


def _table(rows: pd.DataFrame) -> tuple[str, str]:
    """The head and the rows; the baseline's is marked."""
    lines = [_cells(row) for _, row in rows.iterrows()]

    def classes(name: str) -> str:
        found = ["number"] * (name != "recipe") + ["wide"] * (name in WIDE)
        return f' class="{" ".join(found)}"' if found else ""

    sorted_by, anchor = ' aria-sort="ascending"', ' class="anchor"'
    head = "".join(
        f'<th scope="col"{classes(name)}{sorted_by if name == "rank" else ""}>'
        f'<button type="button">{escape(name)}</button></th>'
        for name in lines[0]
    )
    body = "\n".join(
        f'<tr data-row="{place}"{anchor if cells["recipe"][0] == BASELINE else ""}>'
        + "".join(
            f'<td{classes(name)} data-value="{"" if value is None else escape(str(value))}">{escape(text)}</td>'
            for name, (value, text) in cells.items()
        )
        + "</tr>"
        for place, cells in enumerate(lines)
    )
    return head, body


def _mark(place: int, row: pd.Series[Any]) -> dict[str, Any]:
    """What the plane and the mouse show of a recipe."""
    kinds = {"angle": ANGLE_OF_MEAN, "low": LOW_OF_MEAN, "high": HIGH_OF_MEAN}
    numbers = kinds | {"projection": PROJECTION, "bias": BIAS, "bias_low": BIAS_LOW, "bias_high": BIAS_HIGH}
    named = {"index": place, "name": row[RECIPE], "random": bool(row[DRAWS] > 1)}
    return named | {name: plain(row[column]) for name, column in numbers.items()}


def _heat(rows: pd.DataFrame) -> str:
    """A table a recipe, layers downwards and products across; the stronger, the larger the angle within it."""
    tables = []
    for name, own in rows.groupby(RECIPE, sort=False):
        grid = own.pivot(index=LAYER, columns=PRODUCT, values=ANGLE_OF_MEAN).reindex(index=own[LAYER].unique())
        products = [product for product in (*Product, ALL) if product in grid.columns]
        largest = float(grid.max().max()) or 1.0
        head = "".join(f'<th scope="col">{"all products" if each == ALL else escape(each)}</th>' for each in products)
        body = "".join(
            f'<tr><th scope="row">{"all layers" if layer == ALL else escape(str(layer))}</th>'
            + "".join(_shade(values[product], largest) for product in products)
            + "</tr>"
            for layer, values in grid.iterrows()
        )
        tables.append(
            f'<div><h3>{escape(str(name))}</h3><div class="scroll" tabindex="0"><table class="heat">'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div></div>"
        )
    return "\n".join(tables)


def _shade(angle: float, largest: float) -> str:
    if pd.isna(angle):
        return "<td>-</td>"
    return f'<td style="--heat: {100 * angle / largest:.0f}%">{angle:.3g}</td>'


def _apart(table: pd.DataFrame) -> str:
    """The card of products and layers alone; nothing where they were not measured."""
    alone = table[(table[PART] == Part.ALONE) & (table[RECIPE] != BASELINE)]
    if not len(alone):
        return ""
    return (
        '<section class="card"><h2>Where it comes from</h2><div class="heats">'
        f'{_heat(alone)}</div><p class="note">Angle of the mean, only this product of this layer in the recipe '
        "(degrees); stronger is larger within one recipe.</p></section>"
    )


def _kept(table: pd.DataFrame) -> str:
    """The card of what is kept in the baseline's formats; nothing where nothing was."""
    rows = table[table[PART] == Part.KEPT]
    if not len(rows):
        return ""
    lines = "".join(
        f"<tr><td>{escape(row[RECIPE])}</td><td class='number'>{100 * row[KEPT]:.1f}%</td><td class='number'>"
        f"{escape(bounded(row[ANGLE_OF_MEAN], row[LOW_OF_MEAN], row[HIGH_OF_MEAN], row[N]))}</td>"
        f"<td class='names'>{escape(row[LAYER].replace(' ', ', ') or 'nothing that saves any fits')}</td></tr>"
        for _, row in rows.iterrows()
    )
    head = "<th>recipe</th><th class='number'>kept</th><th class='number'>of the mean</th><th>layers</th>"
    return (
        f'<section class="card"><h2>Kept in {BASELINE}</h2><div class="scroll" tabindex="0"><table class="plain">'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
        '<p class="note">Kept: of the multiply-accumulates.</p></section>'
    )


def section(table: pd.DataFrame, sidecar: dict[str, Any], file: str) -> Section:
    """What a page shows of recipes.

    Args:
        table: The columns of `predictor.measure_recipes`.
        sidecar: What `results.sidecar` gave of it, or nothing: then the page names no settings.
        file: The name of its file.
    """
    settings = sidecar.get("settings", {})
    named = as_measured(table, settings)
    whole = named[(named[PRODUCT] == ALL) & (named[PART] == Part.EVERYWHERE)]
    head, rows = _table(whole)
    marks = [_mark(place, row) for place, (_, row) in enumerate(whole.iterrows())]
    minibatches = int(whole[N].max())
    return Section(
        title=f"{settings.get('workload', file)}: {len(whole)} recipes",
        verdict=of_recipes(named),
        summary=f"by {RANKED_BY[settings.get('order', Order.PROJECTION)]} between the weight gradients of a recipe and "
        f"in full precision over {counted(minibatches, 'mini-batch')}; only the operands of products are "
        "rounded; smaller is better",
        meanings=MEANINGS,
        body=Template((SOURCE / "recipes.html").read_text("utf-8")).substitute(
            head=head,
            rows=rows,
            apart=_apart(named),
            kept=_kept(named),
            baseline=BASELINE,
            data=embedded({"marks": marks, "baseline": BASELINE}),
        ),
        script=(SOURCE / "recipes.js").read_text("utf-8"),
        command=settings.get("command"),
        sidecar=sidecar,
        digests=settings.get("recipes", {}),
    )


def checked(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The table; ValueError where it is none of recipes."""
    if absent := [column for column in COLUMNS if column not in (*table.columns, *LATER)]:
        raise ValueError(f"{path} has no column {absent[0]!r}; give what formats rank or recipes wrote")
    if not ((table[PRODUCT] == ALL) & (table[PART] == Part.EVERYWHERE)).any():
        raise ValueError(f"{path} has no recipe everywhere; give what formats recipes wrote")
    return table
