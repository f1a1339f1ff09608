"""Prediction: from a workload and formats to angles, without training."""

import numeric_formats

numeric_formats.require("formats", "workloads")

from predictor.gradient import Effect, Pair  # noqa: E402
from predictor.measure import measure  # noqa: E402

__all__ = ["Effect", "Pair", "measure"]
