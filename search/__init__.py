"""Search: from many formats to a ranking."""

import numeric_formats

numeric_formats.require("formats", "workloads", "predictor")

from search.rank import rank  # noqa: E402
from search.ranking import Ranking  # noqa: E402

__all__ = ["Ranking", "rank"]
