"""Low-precision training."""

import numeric_formats

numeric_formats.require("formats", "workloads", "predictor")

from training.train import Result, train  # noqa: E402

__all__ = ["Result", "train"]
