"""Trainings, validations, training methods, and quantization after training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.tables.cells import correlations, or_dash
from reports.tables.layout import Part, plain
from reports.validation import by_format

if TYPE_CHECKING:
    from training.calibration import Quantized
    from training.result import Result
    from training.validation import Validation


def epochs(model: str, result: Result, baseline: Result | None = None) -> list[Part]:
    """Loss and metric after each epoch; beside a full-precision run alike, where there is one, with the gap: by how
    much the loss is above that run's, relative to it."""
    names = ["epoch", "loss", "metric"]
    rows = [[str(row.epoch), f"{row.loss:.4f}", or_dash(row.metric, ".4f")] for row in result.epochs.itertuples()]
    if baseline is None:
        return [plain(f"{model}: {result.outcome}", [(name, "right") for name in names], rows)]
    # Either may have ended early; both have the first epochs.
    ratios = result.epochs["loss"] / baseline.epochs["loss"]
    for cells, ratio, other in zip(rows, ratios, baseline.epochs.itertuples(), strict=False):
        cells += [f"{other.loss:.4f}", f"{ratio - 1:+.2%}", or_dash(other.metric, ".4f")]
    names += ["float32", "gap", "its metric"]
    said = [f"float32: {baseline.outcome}: {baseline.reason}"] if baseline.reason else []
    return [plain(f"{model}: {result.outcome}", [(name, "right") for name in names], rows), *said]


def validation(found: Validation, effect: str, title: str) -> list[Part]:
    """A row per format, the smallest angle first, and how well the angle, and everything else that the ranking has,
    has predicted the loss, beside what the seeds allow at most."""
    of = found.agreement
    parts: list[Part] = [
        _runs(found.runs, title),
        f"angle ({effect}) against final loss over {of.formats} formats: {correlations(of)}",
    ]
    if found.reliability > 0:
        parts.append(
            f"the seeds agree so well that no correlation above {math.sqrt(found.reliability):.3f} is to be expected "
            f"(reliability of the mean loss {found.reliability:.3f})"
        )
    if found.others:
        headers = [("indicator", "left"), ("Spearman", "right"), ("Kendall", "right")]
        rows = [
            [
                name,
                f"{one.spearman:.3f} [{one.spearman_low:.3f}, {one.spearman_high:.3f}]",
                f"{one.kendall:.3f} [{one.kendall_low:.3f}, {one.kendall_high:.3f}]",
            ]
            for name, one in found.others.items()
        ]
        parts.append(plain("all indicators against final loss", headers, rows))
    return parts


def _runs(runs: pd.DataFrame, title: str) -> Part:
    headers = [
        ("format", "left"),
        *((name, "right") for name in ("bits", "angle", "final loss", "seeds' range", "gap", "metric")),
    ]

    def cells(row: Any) -> list[str]:
        described = [row.name, str(row.bits), f"{row.angle:.2f}"]
        if row.diverged:
            return [*described, f"{row.diverged} diverged", "", "", ""]
        seeds = f"{row.loss_low:.4f} to {row.loss_high:.4f}"
        return [*described, f"{row.loss:.4f}", seeds, or_dash(row.gap, "+.1%"), or_dash(row.metric, ".4f")]

    return plain(title, headers, [cells(row) for row in by_format(runs).itertuples(index=False)])


def methods(rows: Sequence[dict[str, Any]]) -> list[Part]:
    """What `training.methods.described` gave, a line each: which tensors it quantizes."""
    kinds = {"weight": "W", "activation": "A", "error": "E"}

    def quantized(row: dict[str, Any]) -> str:
        return ", ".join(letter for kind, letter in kinds.items() if row[kind] != "-") or "-"

    headers = [(name, "left") for name in ("name", "quantizes", "in layers", "source")]
    return [
        plain(None, headers, [[row["name"], quantized(row), row["layers"], row["source"]] for row in rows]),
        "W: weights, A: activations, E: errors",
        "formats methods NAME tells all of one, --json of all",
    ]


def method(row: dict[str, Any]) -> list[Part]:
    """All of one method, and its options with their defaults."""
    told = [[key, str(value)] for key, value in row.items() if key not in ("name", "options")]
    options = [[key, str(value)] for key, value in row["options"].items()]
    return [
        plain(row["name"], [("", "left"), ("", "left")], told),
        plain(None, [("--option", "left"), ("default", "left")], options),
    ]


def quantization(result: Quantized, title: str) -> list[Part]:
    """What each step of a quantization has left of loss and metric; where layers were measured, what each costs, the
    costliest first."""
    steps = [[step.name, f"{step.loss:.4f}", or_dash(step.metric, ".4f")] for step in result.steps]
    parts: list[Part] = [plain(title, [("step", "left"), ("loss", "right"), ("metric", "right")], steps)]
    if result.layers:
        headers = [
            ("layer", "left"),
            *((name, "right") for name in ("loss by weight", "by input", "output error", "to nearest")),
        ]
        layers = [
            [
                *(layer.layer, f"{layer.weight:+.5f}", f"{layer.activation:+.5f}"),
                *(or_dash(value, ".4g") for value in (layer.rounded, layer.nearest)),
            ]
            for layer in result.layers
        ]
        parts.append(plain("layers, each quantized alone, the costliest first", headers, layers))
    if result.kept:
        names = ", ".join(result.kept)
        parts.append(f"left in float32, since only convolution and linear modules are quantized: {names}")
    return [*parts, *(line for line in (result.covered.sentence, result.covered.remainder) if line)]
