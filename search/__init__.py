"""Search: from many formats to a ranking."""

import numeric_formats

numeric_formats.require("formats", "workloads", "predictor")

from search.knapsack import Constraints, ScoreTable, synthesize  # noqa: E402
from search.stages import rank  # noqa: E402
from search.table import Ranking  # noqa: E402
from search.tailored import search  # noqa: E402

__all__ = ["Constraints", "Ranking", "ScoreTable", "rank", "search", "synthesize"]
