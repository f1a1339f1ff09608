"""Prediction: from a workload and formats to angles, without training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numeric_formats

numeric_formats.require("formats", "workloads")

if TYPE_CHECKING:
    from formats.pairs import Pair
    from predictor.angles import measure
    from predictor.effects import Effect
    from predictor.recipe_angles import measure_recipes

__all__ = ["Effect", "Pair", "measure", "measure_recipes"]
_HELD_BY = {
    "Effect": "predictor.effects",
    "Pair": "formats.pairs",
    "measure": "predictor.angles",
    "measure_recipes": "predictor.recipe_angles",
}


def __getattr__(name: str) -> Any:
    """What is imported from here, once it is asked for: torch takes longer to load than short commands run."""
    if name in _HELD_BY:
        return getattr(import_module(_HELD_BY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
