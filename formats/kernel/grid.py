"""A profile as the loops read it: a row of whole numbers, independent of T."""

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from formats.kernel.bits import i4
from formats.profile import Profile

# The row: binades, largest magnitude as a multiple of the top step, which loop, the exponent bias of the
# largest power of two to add, where the tail begins and 24 less its precision, where precision changes and by how much,
# twice, the exponent bias of the smallest power to add, four packed words of precisions, the profile, and for each of
# its binades the magnitude index of the first value.
BINADES, LARGEST, LOOP, BIGGEST, TAIL, TAIL_SHIFT, CHANGE1, DELTA1, CHANGE2, DELTA2, SMALLEST, PACKED = range(12)
PACKED_BINADES, PACKED_PRECISION, PACKED_WORDS = 32, 15, 4
PROFILE = PACKED + PACKED_WORDS
EXACT_LOOP, CHANGES_LOOP, PACKED_LOOP = 0, 1, 2
NEVER = -1000
"""A binade so far up that no float32 lies in it."""


def _packed(extended: Profile) -> list[int]:
    """Precisions, four bits a binade, counted from the binade below the bottom one (which keeps 0)."""
    upward = extended[::-1]
    words = [0] * PACKED_WORDS
    for j in range(PACKED_BINADES):
        words[j // 8] |= upward[min(j, len(upward) - 1)] << (4 * (j % 8))
    return [word - (1 << 32) if word >> 31 else word for word in words]


@lru_cache(maxsize=4096)
def describe(profile: Profile, largest: int) -> NDArray[np.int64]:
    """A profile's grid as the loops read it.

    Args:
        profile: Significant bits of each binade.
        largest: The largest magnitude, as a multiple of the top binade's step.

    Returns:
        Whole numbers, in the order that this module names.
    """
    extended = (*profile, 0)  # below the smallest value the step is that value, as if no bit were kept there
    tail = len(profile)
    while tail and extended[tail - 1] == len(profile) - tail + 1:
        tail -= 1
    biases = [24 - p - d for d, p in enumerate(extended)]
    changes = [(d, extended[d + 1] - extended[d]) for d in range(tail) if extended[d] != extended[d + 1]]
    row = np.zeros(PROFILE + 2 * len(profile), np.int64)
    row[BINADES], row[LARGEST], row[LOOP] = len(profile), largest, EXACT_LOOP
    row[BIGGEST], row[SMALLEST] = max(biases), min(biases)
    row[TAIL], row[TAIL_SHIFT] = tail, 24 - extended[tail]
    (row[CHANGE1], row[DELTA1]), (row[CHANGE2], row[DELTA2]) = (changes + [(NEVER, 0)] * 2)[:2]
    if len(changes) <= 2:
        row[LOOP] = CHANGES_LOOP
    elif max(profile) <= PACKED_PRECISION and len(set(extended[::-1][PACKED_BINADES - 1 :])) <= 1:
        row[LOOP], row[PACKED:PROFILE] = PACKED_LOOP, _packed(extended)
    row[PROFILE : PROFILE + len(profile)] = profile
    row[PROFILE + len(profile) :] = [1 + sum(1 << (p - 1) for p in profile[d + 1 :]) for d in range(len(profile))]
    return row


@njit(nogil=True, inline="always")
def is_fast(grid, first):
    """Whether all values and powers to add are normal numbers when the top binade has this exponent field."""
    return grid[LOOP] != EXACT_LOOP and first - grid[BINADES] >= 0 and first + grid[BIGGEST] <= 254


@njit(nogil=True, inline="always")
def has_normal_steps(grid, first):
    """The same, and the steps as well."""
    return is_fast(grid, first) and first + grid[SMALLEST] >= 24


@njit(nogil=True, inline="always")
def has_steps_of_float32(grid, first):
    """Whether every binade keeps equally many bits, fewer than float32, down to where float32's own tail begins."""
    one_precision = grid[LOOP] == CHANGES_LOOP and grid[CHANGE1] == NEVER and grid[PROFILE] < 24
    return one_precision and first <= 254 and first - grid[TAIL] == 1


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
