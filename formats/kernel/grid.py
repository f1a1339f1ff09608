"""A profile as the loops read it: a row of whole numbers, independent of T."""

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from formats.kernel.bits import i4
from formats.profile import Profile

# The row: binades, largest magnitude as a multiple of the top step, which loop, the exponent bias of the
# largest power of two to add, where the tail begins and 24 less its precision, where precision changes and by how much,
# twice, the exponent bias of the smallest power to add, four words of precisions, the profile, and for each of its
# binades the magnitude index of the first value.
BINADES, LARGEST, LOOP, BIGGEST, TAIL, TAIL_SHIFT, CHANGE1, DELTA1, CHANGE2, DELTA2, SMALLEST, WORDS, PROFILE = (
    *range(12),
    15,
)
EXACT_LOOP, CHANGES_LOOP, WORDS_LOOP = 0, 1, 2
WORDS_BINADES, WORDS_PRECISION = 32, 15
NEVER = -1000
"""A binade so far up that no float32 lies in it."""


def _words(extended: Profile) -> list[int]:
    """Precisions, four bits a binade, counted from the binade below the bottom one (which keeps 0)."""
    upward = extended[::-1]
    words = [0, 0, 0, 0]
    for j in range(WORDS_BINADES):
        words[j // 8] |= upward[min(j, len(upward) - 1)] << (4 * (j % 8))
    return [word - (1 << 32) if word >> 31 else word for word in words]


@lru_cache(maxsize=4096)
def describe(profile: Profile, largest: int) -> NDArray[np.int64]:
    """The grid as the loops read it; `largest` is the largest magnitude as a multiple of the top binade's step."""
    extended = (*profile, 0)  # below the smallest value the step is that value, as if no bit were kept there
    tail = len(profile)
    while tail and extended[tail - 1] == len(profile) - tail + 1:
        tail -= 1
    changes = [(d, extended[d + 1] - extended[d]) for d in range(tail) if extended[d] != extended[d + 1]]
    loop, words = EXACT_LOOP, [0] * 4
    if len(changes) <= 2:
        loop = CHANGES_LOOP
    elif max(profile) <= WORDS_PRECISION and len(set(extended[::-1][WORDS_BINADES - 1 :])) <= 1:
        loop, words = WORDS_LOOP, _words(extended)
    biases = [24 - p - d for d, p in enumerate(extended)]
    (change1, delta1), (change2, delta2) = (changes + [(NEVER, 0)] * 2)[:2]
    head = [
        len(profile),
        largest,
        loop,
        max(biases),
        tail,
        24 - extended[tail],
        change1,
        delta1,
        change2,
        delta2,
        min(biases),
    ]
    below = [1 + sum(1 << (p - 1) for p in profile[d + 1 :]) for d in range(len(profile))]
    return np.array([*head, *words, *profile, *below], np.int64)


@njit(nogil=True, inline="always")
def is_fast(grid, first):
    """Whether all values and powers to add are normal numbers when the top binade has this exponent field."""
    return grid[LOOP] != EXACT_LOOP and first - grid[BINADES] >= 0 and first + grid[BIGGEST] <= 254


@njit(nogil=True, inline="always")
def highest_bits(grid, first):
    """Bits of the largest value."""
    return i4(((first - 1) << 23) + (grid[LARGEST] << (24 - grid[PROFILE])))


@njit(nogil=True, inline="always")
def change_bits(grid, first):
    """What the loop of changes takes, as bits: the tail and its shift, and twice where a change begins and its
    amount."""
    change1 = i4(min((first - grid[CHANGE1]), 255) << 23)
    change2 = i4(min((first - grid[CHANGE2]), 255) << 23)
    tail, shift = i4((first - grid[TAIL]) << 23), i4(grid[TAIL_SHIFT] << 23)
    return tail, shift, change1, i4(grid[DELTA1] << 23), change2, i4(grid[DELTA2] << 23)
