"""Search: from many formats to a ranking."""

from typing import TYPE_CHECKING

import numeric_formats

numeric_formats.require("formats", "workloads", "predictor")

if TYPE_CHECKING:
    from search.knapsack import Constraints, ScoreTable, synthesize
    from search.ranking import rank
    from search.table import Ranking
    from search.tailored import search

__all__ = ["Constraints", "Ranking", "ScoreTable", "rank", "search", "synthesize"]
__getattr__ = numeric_formats.later(
    __name__,
    {
        "Constraints": "search.knapsack",
        "Ranking": "search.table",
        "ScoreTable": "search.knapsack",
        "rank": "search.ranking",
        "search": "search.tailored",
        "synthesize": "search.knapsack",
    },
)
