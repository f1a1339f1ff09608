"""The policies that are worth what they cost, cheapest first: what replays on three networks of which everything is
known found of each (benchmarks/replay.csv, tests/search/test_front.py)."""

from __future__ import annotations

from dataclasses import dataclass

from search.policy import Policy, Rung

UNIT, WHOLE, OPENING, SCREEN, BESIDE = 0.73, 1.1, 1.0, 5.0, 8.2
"""In full-precision gradients: a measurement of E in data flow, which repeats the backward pass alone; one of any other
effect; opening a mini-batch; the screen with the check of the flow; what a finished ranking is held against."""
NETWORKS = 3


@dataclass(frozen=True)
class Tried:
    """A policy, and the worst of what replays of it cost and gave.

    Attributes:
        policy: What is measured.
        units: How many formats times mini-batches that were.
        openings: How many mini-batches were opened.
        regret: By what share of the best angle that of the first format was larger.
        top: How many of the first ten are among the true ones, or tie with the last of them.
        half_width: Of the intervals of formats that were not measured everywhere, as a share of their angles; the mean
            on the network where it is widest.
    """

    policy: Policy
    units: int
    openings: int
    regret: float
    top: int
    half_width: float


LONGEST = Policy(22, 2, (Rung(1, 16), Rung(2, 14), Rung(4, 12), Rung(6, 10)))
SCREEN_ALONE = Tried(Policy(0, 0, ()), units=0, openings=0, regret=0.0, top=9, half_width=2.35)

FRONT = (
    SCREEN_ALONE,
    Tried(Policy(15, 1, (Rung(1, 12),)), units=28, openings=4, regret=0.0, top=9, half_width=0.53),
    Tried(Policy(15, 2, (Rung(2, 12),)), units=54, openings=7, regret=0.0, top=9, half_width=0.38),
    Tried(Policy(22, 2, (Rung(2, 12),)), units=67, openings=6, regret=0.0, top=9, half_width=0.35),
    Tried(Policy(15, 2, (Rung(2, 12), Rung(4, 10))), units=74, openings=9, regret=0.0, top=9, half_width=0.32),
    Tried(Policy(22, 2, (Rung(2, 12), Rung(4, 10))), units=87, openings=8, regret=0.0, top=9, half_width=0.30),
    Tried(LONGEST, units=118, openings=11, regret=0.0, top=10, half_width=0.27),
)
"""Those whose intervals hold 90% in every replay of AE, each with narrower intervals than all cheaper ones, at no
larger a regret and with no fewer of the first ten."""
