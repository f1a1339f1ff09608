"""Prediction: from a workload and formats to angles, without training."""

from typing import TYPE_CHECKING

import numeric_formats

numeric_formats.require("formats", "workloads")

if TYPE_CHECKING:
    from formats.pairs import Pair
    from predictor.angles import measure
    from predictor.effects import Effect
    from predictor.recipe_comparison.angles import measure_recipes

__all__ = ["Effect", "Pair", "measure", "measure_recipes"]
__getattr__ = numeric_formats.later(
    __name__,
    {
        "Effect": "predictor.effects",
        "Pair": "formats.pairs",
        "measure": "predictor.angles",
        "measure_recipes": "predictor.recipe_comparison.angles",
    },
)
