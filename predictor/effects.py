"""Effects: what is quantized when an angle is measured."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from numeric_formats.checks import not_allowed


class Effect(StrEnum):
    """What is quantized when an angle is measured: errors, activations, both; weights, and all three."""

    E = "E"
    A = "A"
    AE = "AE"
    W = "W"
    WAE = "WAE"


DEFAULT_EFFECTS = (Effect.E, Effect.A, Effect.AE)


def check_effects(effects: Iterable[str]) -> tuple[Effect, ...]:
    """Effects from their names, in the order E, A, AE, W, WAE; ValueError for others."""
    wanted = {str(effect).upper() for effect in effects}
    for name in sorted(wanted - set(Effect)):
        raise not_allowed("effect", name, Effect)
    if not wanted:
        raise ValueError(f"no effect was given; allowed are {', '.join(Effect)}")
    return tuple(effect for effect in Effect if effect in wanted)
