"""The best formats of a width for given tensors, out of all precision profiles there are
(docs/definitions/prediction.md sections 3 and 5).

Rounding noise is a sum over binades of numbers that depend only on the precision kept there. Weighted and added over
tensors it is one table, in which a profile's score is a sum of one entry for each of its binades, and the best profile
is a knapsack: a binade that keeps p significant bits costs 2^(p-1) of the 2^(bits-1) - 1 magnitudes that a code of
`bits` bits has besides zero.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import ProfileFormat, Scale, from_profile
from formats.pairs import Pair
from formats.profile import Profile
from formats.scale import MOST_HEADROOM
from numeric_formats.checks import at_least, one_of
from predictor.gradient.noise import BINADES, PRECISIONS, NoiseTables
from predictor.scheme import CURRENT, Scheme

FEWEST_BITS, MOST_BITS = 2, 8
"""Widths that are searched; wider formats keep more bits than noise tables tell apart, and make no noise that
matters."""


def check_width(bits: int) -> None:
    """ValueError for a width that is not searched."""
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"{bits} bits: formats of {FEWEST_BITS} to {MOST_BITS} are searched")


@dataclass(frozen=True)
class ScoreTable:
    """What each choice of a tensor-scaled profile adds to its score, the weighted sum of noise-to-signal ratios over
    tensors.

    Every tensor's scale is taken to be the one that its largest magnitude asks for. A tensor that is so small or so
    large that the scale is clamped to the range of float32 is scored as if it were not; `NoiseTables.nsr` has what such
    a tensor really loses.

    Attributes:
        kept: (binades, precisions), for the elements of a binade below a tensor's top at each precision.
        saturated: (precisions,), instead of the first row where no binade is left free above the top.
        ended: (binades + 2,), for all elements below a profile that ends i - 1 binades below the top, entry 0 where it
            ends above it.
    """

    kept: NDArray[np.float64]
    saturated: NDArray[np.float64]
    ended: NDArray[np.float64]

    @classmethod
    def of(cls, tables: Sequence[NoiseTables], weights: Sequence[NDArray[np.float64]]) -> ScoreTable:
        """The mean over passes of one table each, with the weights, (n,) and >= 0, of its tensors."""
        if not tables or len(tables) != len(weights):
            raise ValueError(
                f"{len(tables)} passes and {len(weights)} sets of weights: one set for each of at least one pass is "
                "needed"
            )
        kept, saturated, energy = np.zeros((BINADES, PRECISIONS)), np.zeros(PRECISIONS), np.zeros(BINADES + 1)
        for each, given in zip(tables, weights, strict=True):
            row = np.asarray(given, np.float64)
            if row.shape != each.top.shape:
                raise ValueError(f"weights of shape {row.shape} for {len(each.top)} tensors: one for each is needed")
            if not (np.isfinite(row) & (row >= 0)).all():
                raise ValueError("weights must be finite and not negative")
            row = row / len(tables)
            kept += np.tensordot(row, each.noise, 1)
            saturated += row @ each.saturated
            energy += row @ each.energy
        # Just below a profile an element goes to its smallest value or to zero, further down always to zero.
        below = np.append(np.cumsum(energy[::-1])[::-1], 0.0)
        ended = np.concatenate([below[:1], kept[:, 0] + below[1:-1], [0.0]])
        return cls(kept, saturated, ended)

    def aligned(self, headroom: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """By a profile's own binades, the first `headroom` of which hold no data: entries (n, precisions) and, for each
        length, ends (n + 1,)."""
        kept = self.kept.copy()
        if not headroom:
            kept[0] = self.saturated
        kept[:, 0] = 0.0
        entries = np.concatenate([np.zeros((headroom, PRECISIONS)), kept])
        ends = np.concatenate([np.full(headroom, self.ended[0]), self.ended[1:]])
        return entries, ends

    def score(self, profiles: NDArray[Any], headroom: int = 0) -> NDArray[np.float64]:
        """Scores, (n,), of profiles (n, binades), integers padded with zeros at the end."""
        given = np.asarray(profiles)
        if given.ndim != 2 or given.dtype.kind not in "iu":
            raise TypeError(
                f"profiles of {given.dtype} and shape {given.shape}: whole numbers, one row a profile, are needed"
            )
        if given.size and not 0 <= given.min() <= given.max() < PRECISIONS:
            raise ValueError(
                f"precisions from {given.min()} to {given.max()}: 0 (for padding) to {PRECISIONS - 1} are allowed"
            )
        if not given.shape[1] or (given[:, 0] == 0).any() or ((given[:, 1:] > 0) & (given[:, :-1] == 0)).any():
            raise ValueError("a profile has zeros only at its end")
        entries, ends = self.aligned(headroom)
        total = ends[np.minimum((given > 0).sum(1), len(ends) - 1)]
        for row, column in zip(entries, given.T, strict=False):  # what lies deeper than the table has no weight
            total += row[column]
        return total


class ProfileShape(StrEnum):
    """How precision may go from the top binade down."""

    ANY = "any"
    UNIMODAL = "unimodal"
    NON_INCREASING = "non-increasing"


@dataclass(frozen=True)
class Constraints:
    """What a synthesized profile must keep to, for the sake of the hardware that decodes it.

    Attributes:
        binades: At most this many.
        shape: any, unimodal (rises, then falls; either may be missing) or non-increasing.
        precisions: At most this many different ones.
        runs: At most this many runs of equal precision.
        headrooms: The numbers of binades that may be left free above the largest magnitude; more than one never
            lessens noise, since with one nothing saturates. None: what the scheme leaves, and one.
    """

    binades: int | None = None
    shape: str = ProfileShape.ANY
    precisions: int | None = None
    runs: int | None = None
    headrooms: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("binades", "precisions", "runs"):
            limit = getattr(self, name)
            if limit is not None and (not isinstance(limit, int) or limit < 1):
                raise ValueError(f"at most {limit!r} {name}: a whole number from 1 is needed")
        object.__setattr__(self, "shape", one_of("shape", ProfileShape, self.shape))
        if self.headrooms is None:
            return
        if not self.headrooms:
            raise ValueError("no headroom was given; 0 leaves no binade free")
        for headroom in self.headrooms:
            if not isinstance(headroom, int) or not 0 <= headroom <= MOST_HEADROOM:
                raise ValueError(
                    f"headroom {headroom!r}: a whole number of binades from 0 to {MOST_HEADROOM} is needed"
                )

    def headrooms_in(self, scheme: Scheme) -> list[int]:
        """The headrooms that profiles may have."""
        usual = (scheme.headroom, max(scheme.headroom, 1))
        return sorted(set(usual if self.headrooms is None else self.headrooms))


@dataclass(frozen=True)
class Synthesized:
    """A format that was found, and its score: the weighted sum of noise-to-signal ratios."""

    format: ProfileFormat
    score: float


@dataclass(frozen=True)
class _State:
    """What the constraints have to know of the binades chosen so far; what none of them asks for stays as it is
    here."""

    last: int = 0
    falling: bool = False
    runs: int = 0
    used: frozenset[int] = frozenset()


def _after(state: _State, p: int, constraints: Constraints) -> _State | None:
    """The state after one more binade, which keeps p bits; None where a constraint forbids it."""
    shape, first = constraints.shape, not state.last
    falling = shape is ProfileShape.NON_INCREASING or (
        shape is ProfileShape.UNIMODAL and (state.falling or p < state.last)
    )
    if falling and p > state.last and not first:
        return None
    runs = state.runs + (constraints.runs is not None and p != state.last)
    used = state.used if constraints.precisions is None else state.used | {p}
    if runs > (constraints.runs or 0) or len(used) > (constraints.precisions or 0):
        return None
    return _State(p if shape is not ProfileShape.ANY or constraints.runs is not None else 0, falling, runs, used)


def _automaton(precisions: int, constraints: Constraints) -> NDArray[np.int64]:
    """The states that can be reached, the start first: what each becomes by a binade of p bits, (states, precisions +
    1), or -1."""
    states, following = {_State(): 0}, []
    pending = [_State()]
    for state in pending:
        row = [-1]
        for p in range(1, precisions + 1):
            after = _after(state, p, constraints)
            if after is not None and after not in states:
                states[after] = len(states)
                pending.append(after)
            row.append(-1 if after is None else states[after])
        following.append(row)
    return np.array(following)


def _profiles(
    scores: ScoreTable, bits: int, constraints: Constraints, headroom: int
) -> Iterator[tuple[float, Profile]]:
    """All profiles that fulfil the constraints, with their scores, the best first."""
    entries, ends = scores.aligned(headroom)
    budget = (1 << (bits - 1)) - 1
    deepest = min(len(entries), budget, constraints.binades or budget)
    following = _automaton(bits - 1, constraints)
    prices = [0, *(1 << (p - 1) for p in range(1, bits))]
    # rest[d][state, left]: the least that binades from d on and the end add, with `left` magnitudes to spend.
    rest = [np.full((len(following), budget + 1), ends[deepest])]
    for d in reversed(range(deepest)):
        least = np.full((len(following), budget + 1), ends[d] if d else np.inf)
        for p in range(1, bits):
            able = np.flatnonzero(following[:, p] >= 0)
            found = entries[d, p] + rest[0][following[able, p], : budget + 1 - prices[p]]
            least[able, prices[p] :] = np.minimum(least[able, prices[p] :], found)
        rest.insert(0, least)
    # Best first: what is already chosen plus the least that can follow is exact, so that complete profiles come out in
    # order. Among equals a finished one comes first, then the longest.
    heap: list[tuple[float, int, Profile, int, int, float]] = [(float(rest[0][0, budget]), 0, (), 0, budget, 0.0)]
    while heap:
        bound, rank, profile, state, left, chosen = heapq.heappop(heap)
        d = len(profile)
        if rank < -deepest:
            yield bound, profile
            continue
        if d:
            heapq.heappush(heap, (chosen + float(ends[d]), -deepest - 1, profile, state, left, chosen))
        if d == deepest:
            continue
        for p in range(1, bits):
            after = following[state, p]
            if after >= 0 and prices[p] <= left:
                total = chosen + float(entries[d, p])
                bound = total + float(rest[d + 1][after, left - prices[p]])
                heapq.heappush(heap, (bound, -d - 1, (*profile, p), int(after), left - prices[p], total))


def synthesize(
    scores: ScoreTable,
    bits: int = 8,
    constraints: Constraints = Constraints(),
    count: int = 1,
    scheme: Scheme = CURRENT,
) -> list[Synthesized]:
    """The `count` best tensor-scaled profiles of a width, the best first; all there are, where there are fewer.

    The minimum is over all profiles that fulfil the constraints, also those that leave codes unused.

    Args:
        scores: What each choice adds.
        bits: The width, 2 to 8.
        constraints: What a profile must keep to.
        count: How many are wanted.
        scheme: By which formats are rounded; a headroom that it leaves anyhow is not part of a name.

    Raises:
        ValueError: Another width, or fewer than one wanted.
    """
    check_width(bits)
    at_least(f"the best {count} formats", count)
    found = chain.from_iterable(
        ((score, profile, headroom) for score, profile in islice(_profiles(scores, bits, constraints, headroom), count))
        for headroom in constraints.headrooms_in(scheme)
    )
    best = heapq.nsmallest(count, found, key=lambda entry: entry[0])
    return [
        Synthesized(
            from_profile(profile, bits, scale=Scale(headroom=None if headroom == scheme.headroom else headroom)), score
        )
        for score, profile, headroom in best
    ]


def synthesize_pairs(
    activations: ScoreTable,
    errors: ScoreTable,
    bits: int = 8,
    constraints: Constraints = Constraints(),
    count: int = 1,
    scheme: Scheme = CURRENT,
) -> list[tuple[Pair, float]]:
    """The `count` best pairs of a format for activations and one for errors, with the sums of their scores, the best
    first."""
    for_activations, for_errors = (
        synthesize(scores, bits, constraints, count, scheme) for scores in (activations, errors)
    )
    pairs = ((Pair(a.format, e.format), a.score + e.score) for a, e in product(for_activations, for_errors))
    return heapq.nsmallest(count, pairs, key=lambda entry: entry[1])
