"""Low-precision training."""

import numeric_formats

numeric_formats.require("formats", "workloads", "predictor")

from training.arguments import train  # noqa: E402
from training.recipe_validation import validate_recipes  # noqa: E402
from training.result import Result  # noqa: E402
from training.validation import validate  # noqa: E402

__all__ = ["Result", "train", "validate", "validate_recipes"]
