"""How an angle of a ranking's row was found, which tables and pictures tell apart alike."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from predictor.columns import PREDICTED, n_column, source_column

if TYPE_CHECKING:
    import pandas as pd


class Source(StrEnum):
    """What an angle rests on, the best first: all mini-batches, some of them, none. All but the first are estimates."""

    MEASURED = "measured"
    PARTLY = "partly measured"
    PREDICTED = "predicted"


def source_of(row: Mapping[str, Any] | pd.Series[Any], effect: str, minibatches: int | None) -> Source:
    """What a row's angle of an effect rests on.

    Args:
        row: Of a ranking, or of a format that it is held against.
        effect: Whose angle.
        minibatches: The ranking's; None where they are not known, as those of a file without its settings.

    Returns:
        The source.
    """
    if row.get(source_column(effect)) == PREDICTED:
        return Source.PREDICTED
    measured = row.get(n_column(effect))
    fewer = minibatches is not None and measured is not None and measured < minibatches
    return Source.PARTLY if fewer else Source.MEASURED
