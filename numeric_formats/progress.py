"""How far a long piece of work is: the one type by which every one of them says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of a stage. note: what else is known by now, in a few words (the last loss, the format at
    hand)."""

    stage: str
    done: int
    total: int
    note: str = ""


Report = Callable[[Progress], None]
"""What is called with every step of progress."""


def quiet(_: Progress) -> None:
    """Says nothing."""
