"""How much a ranking of many candidates measures, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from numeric_formats.messages import counted


class Rung(NamedTuple):
    """A step of a race: all that are left have run on `minibatches` mini-batches when it ends; at most `contenders`
    start it."""

    minibatches: int
    contenders: int


@dataclass(frozen=True)
class Policy:
    """What is measured of many candidates.

    Attributes:
        anchors: How many formats are measured before the race, for every effect: named ones, and others that stand for
            all.
        anchor_minibatches: On how many mini-batches.
        rungs: Of the race, by the effect that orders the table.
        over: Over how many mini-batches angles are averaged where nobody says; a race may end before, and the mean is
            then an estimate.
        entries: So many times as many as the first rung has are measured on the first mini-batch at most, since each
            measurement moves the prediction of who is promising.
        beside: On how many mini-batches anchors are measured for the effects that are asked for but do not order the
            table; None for as many as for the one that does. On one, their intervals are wide, and hold.
    """

    anchors: int
    anchor_minibatches: int
    rungs: tuple[Rung, ...]
    over: int = 16
    entries: float = 1.5
    beside: int | None = None

    def on(self, minibatches: int) -> tuple[int, int]:
        """On how many of so many mini-batches anchors are measured: for the effect that orders, and for others."""
        own = min(self.anchor_minibatches, minibatches)
        return own, own if self.beside is None else min(self.beside, own)

    def until(self, minibatches: int) -> list[Rung]:
        """The rungs of a race for the mean over so many mini-batches: those that there are enough for; for more than
        the policy averages over they go on doubling; none where the policy has no race."""
        if not self.rungs:
            return []
        if minibatches <= self.over:
            last = min(minibatches, self.rungs[-1].minibatches)
            rungs = [rung for rung in self.rungs if rung.minibatches < last]
            return [*rungs, Rung(last, self.rungs[len(rungs)].contenders)]
        rungs = list(self.rungs)
        while 2 * rungs[-1].minibatches < minibatches:
            rungs.append(Rung(2 * rungs[-1].minibatches, rungs[-1].contenders))
        return [*rungs, Rung(minibatches, rungs[-1].contenders)]


def in_words(policy: Policy) -> str:
    """Such as "22 anchors on 2 mini-batches, 14 race to 4"."""
    if not policy.anchors and not policy.rungs:
        return "the screen alone"
    on = policy.anchor_minibatches
    parts = [f"{policy.anchors} anchors on {counted(on, 'mini-batch')}"] if policy.anchors else []
    if policy.rungs:
        parts.append(f"{policy.rungs[0].contenders} race to {policy.rungs[-1].minibatches}")
    return ", ".join(parts)


def most_units(rungs: Sequence[Rung]) -> int:
    """Formats times mini-batches of a race in which no one leaves early."""
    before = [0, *(rung.minibatches for rung in rungs)]
    return sum(rung.contenders * (rung.minibatches - earlier) for rung, earlier in zip(rungs, before, strict=False))


DEFAULT = Policy(anchors=15, anchor_minibatches=2, rungs=(Rung(2, 12), Rung(4, 10)), beside=1)
"""What is measured where nobody says for how long; docs/results/ranking.md says why."""
BY_E = Policy(anchors=22, anchor_minibatches=2, rungs=(Rung(2, 14), Rung(4, 12)))
"""The same where E orders: of 15 anchors, its intervals do not hold everywhere."""
LONG = Policy(
    anchors=22,
    anchor_minibatches=2,
    rungs=(Rung(1, 26), Rung(2, 16), Rung(4, 12), Rung(8, 10), Rung(16, 8)),
    entries=2.0,
)
"""The same at operands of products, for which no other policy was tried."""
