"""Search: from many formats to a ranking."""

import numeric_formats

numeric_formats.require("formats", "workloads", "predictor")

from search.rank import rank  # noqa: E402
from search.ranking import Ranking  # noqa: E402
from search.search import search  # noqa: E402
from search.synthesize import Constraints, ScoreTable, synthesize  # noqa: E402

__all__ = ["Constraints", "Ranking", "ScoreTable", "rank", "search", "synthesize"]
