"""Prediction: from a workload and formats to angles, without training."""

import numeric_formats

numeric_formats.require("formats", "workloads")

from formats.pairs import Pair  # noqa: E402
from predictor.angles import measure  # noqa: E402
from predictor.effects import Effect  # noqa: E402
from predictor.recipe_angles import measure_recipes  # noqa: E402

__all__ = ["Effect", "Pair", "measure", "measure_recipes"]
