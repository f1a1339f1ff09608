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


DEFAULT_EFFECTS = (Effect.E, Effect.A, Effect.AE)
MEASURED_EFFECTS = (*DEFAULT_EFFECTS, Effect.E_GIVEN_A)
"""Those of `measure`: beside A and AE, E given A costs next to nothing."""


def usual_effect(effects: Sequence[str]) -> str:
    """The effect that orders formats where nobody names one: E, whose angle tells best how they train
    (docs/results/prediction.md), else AE, else the last."""
    return next((str(effect) for effect in (Effect.E, Effect.AE) if effect in effects), str(effects[-1]))


def check_effects(effects: Iterable[str]) -> tuple[Effect, ...]:
    """Effects from their names, in the order E, A, AE, E|A, W, WAE, OPERANDS; ValueError for others."""
    wanted = {str(effect).upper() for effect in effects}
    for name in sorted(wanted - set(Effect)):
        raise not_allowed("effect", name, Effect)
    if not wanted:
        raise ValueError(f"no effect was given; allowed are {', '.join(Effect)}")
    return tuple(effect for effect in Effect if effect in wanted)
