"""Numbers that go from one value to another over the steps of a run, by a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numeric_formats.checks import number


@dataclass(frozen=True)
class Annealed:
    """A number of each step: the same for all, or by half a cosine from `start` to `end`.

    Args:
        start: In the first step.
        end: After the last step.
    """

    start: float
    end: float

    @classmethod
    def of(cls, name: str, given: float | str, high: float = math.inf) -> Annealed:
        """From a number, or a text of one or of two with a colon between.

        Args:
            name: What it is of, for the error.
            given: Such as 0.01 or "0.04:0.01".
            high: The largest that is allowed; the least is 0.

        Raises:
            ValueError: For anything else.
        """
        try:
            ends = [float(part) for part in str(given).split(":")]
        except ValueError:
            ends = []
        if len(ends) not in (1, 2):
            raise ValueError(f"{name} {given!r}: a number is needed, or START:END for a cosine from one to the other")
        for end in ends:
            number(name, end, 0, high)
        return cls(ends[0], ends[-1])

    def __str__(self) -> str:
        return str(self.start) if self.start == self.end else f"{self.start}:{self.end}"

    def at(self, step: int, steps: int) -> float:
        """In a step, counted from 0, of so many."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * step / steps)) / 2
