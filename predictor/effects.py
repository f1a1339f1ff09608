"""Effects: what is quantized when an angle is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from numeric_formats.checks import not_allowed


class Effect(StrEnum):
    """What is quantized when an angle is measured: errors, activations, both; errors where activations are rounded in
    the gradient that they are compared with too; weights, and all three; the operands of the products of layers with
    weights, and nothing between them (docs/definitions/recipes.md)."""

    E = "E"
    A = "A"
    AE = "AE"
    E_GIVEN_A = "E|A"
    W = "W"
    WAE = "WAE"
    OPERANDS = "OPERANDS"


class Points(StrEnum):
    """Where numbers are rounded when a format is measured: at every output of an operation (docs/definitions/
    prediction.md section 1), or the operands of the products of layers with weights alone, as a recipe does."""

    DATAFLOW = "dataflow"
    OPERANDS = "operands"


DEFAULT_EFFECTS = (Effect.E, Effect.A, Effect.AE)
MEASURED_EFFECTS = (*DEFAULT_EFFECTS, Effect.E_GIVEN_A)
"""Those of `measure`: beside A and AE, E given A costs next to nothing."""
OPERAND_EFFECTS = (Effect.E, Effect.A, Effect.AE, Effect.W, Effect.WAE)
"""Those that formats have at operands, where E is dy, A is x, W is W, and WAE is all six of them."""


def repeats_within(effect: Effect) -> float:
    """The share by which an angle's mean moves where sums are taken in another order: no smaller difference is one of
    formats (docs/results/prediction.md, benchmarks/repeatability.txt)."""
    return 0.004 if effect is Effect.E else 0.01


def usual_effect(effects: Sequence[str], points: Points = Points.DATAFLOW) -> str:
    """The effect that orders formats where nobody names one: AE, whose angle tells best how they train
    (docs/results/prediction.md), else E, else the last; at operands WAE, what is trained, where it is there."""
    if points is Points.OPERANDS and Effect.WAE in effects:
        return Effect.WAE.value
    return next((str(effect) for effect in (Effect.AE, Effect.E) if effect in effects), str(effects[-1]))


def check_effects(effects: Iterable[str]) -> tuple[Effect, ...]:
    """Effects from their names, in the order E, A, AE, E|A, W, WAE, OPERANDS; ValueError for others."""
    wanted = {str(effect).upper() for effect in effects}
    for name in sorted(wanted - set(Effect)):
        raise not_allowed("effect", name, Effect)
    if not wanted:
        raise ValueError(f"no effect was given; allowed are {', '.join(Effect)}")
    return tuple(effect for effect in Effect if effect in wanted)


def effects_at(points: Points, effects: Iterable[str] | None, usual: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """The effects that are measured at points; ValueError for those that have no meaning there. usual: what None stands
    for in data flow; at operands it is all six of them, WAE."""
    if points is Points.DATAFLOW:
        return check_effects(usual if effects is None else effects)
    wanted = (Effect.WAE,) if effects is None else check_effects(effects)
    for effect in wanted:
        if effect not in OPERAND_EFFECTS:
            raise not_allowed("effect at operands", effect.value, OPERAND_EFFECTS)
    return wanted
