"""What a page is made of: a section for each result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

SOURCE = resources.files("reports") / "page"
"""Where the HTML, the scripts and the style of pages are."""


@dataclass(frozen=True)
class Section:
    """What a page shows of one result.

    Attributes:
        title: Its network, and what there is of it.
        verdict: One sentence.
        summary: What its numbers are, and of how much.
        meanings: Its words.
        body: HTML.
        script: What makes that answer, after `chart.js`.
        command: What made the result; None where that is not known.
        sidecar: What `results.sidecar` gave.
        digests: Of what was measured, by name.
    """

    title: str
    verdict: str
    summary: str
    meanings: dict[str, str]
    body: str
    script: str
    command: str | None
    sidecar: dict[str, Any]
    digests: dict[str, str]


def embedded(data: dict[str, Any]) -> str:
    """Data as JSON within a page: it holds no end of a script and no comment."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def plain(value: Any) -> Any:
    """A value of a table as JSON has it."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
