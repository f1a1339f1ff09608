"""TODO."""

from __future__ import annotations

from enum import StrEnum


class Effect(StrEnum):
    """What is quantized when an angle is measured: errors, activations, both; weights, and all three."""

    E = "E"
    A = "A"
    AE = "AE"
    W = "W"
    WAE = "WAE"
