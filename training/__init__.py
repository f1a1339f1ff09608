"""Low-precision training."""

import numeric_formats

numeric_formats.require("formats", "workloads", "predictor")
