"""What a row of a comparison of recipes is of, and what orders the rows; without anything that takes long to load."""

from __future__ import annotations

from enum import StrEnum

from predictor.columns import BY_ANGLE, BY_PROJECTION


class Order(StrEnum):
    """The number that recipes are ordered by: the distance of the projection from 1, or the angle of the mean over
    draws."""

    PROJECTION = "projection"
    ANGLE = "angle"

    @property
    def column(self) -> str:
        """Where the ranks by it stand."""
        return BY_PROJECTION if self is Order.PROJECTION else BY_ANGLE


class Part(StrEnum):
    """Of a recipe: where it holds everywhere, in one layer alone, everywhere without one, or everywhere but in layers
    that are kept in the baseline's formats."""

    EVERYWHERE = "everywhere"
    ALONE = "alone"
    WITHOUT = "without"
    KEPT = "kept"
