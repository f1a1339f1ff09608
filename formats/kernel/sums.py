"""The sums from which the angle between an array and its rounded or otherwise changed copy follows, and sketches of
both, from which inner products with those of other mini-batches do."""

from typing import Any

import numpy as np
from numba import float32, float64, uint64
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.caching import kept_njit
from formats.kernel.threads import task
from formats.kernel.tiling import FLAT_TILE, TILING, cut_flat, tiles_of_thread
from formats.kernel.words import Words


@kept_njit(fastmath={"reassoc", "contract"})
def _sums(changed, x):
    product, difference, square = 0.0, 0.0, 0.0
    for i in range(x.size):
        g = np.float64(x[i])
        d = np.float64(changed[i]) - g
        product += d * g
        difference += d * d
        square += g * g
    return product, difference, square


WORDS = Words(tiling=TILING, changed=float32[::1], x=float32[::1], found=float64[::1])


@task(WORDS)
def _sums_of_tiles(w):
    changed, x, found = w.changed, w.x, w.found
    begin, end = tiles_of_thread(w)
    for tile in range(begin, end):
        first = tile * FLAT_TILE
        last = min(first + FLAT_TILE, w.columns)
        found[3 * tile], found[3 * tile + 1], found[3 * tile + 2] = _sums(changed[first:last], x[first:last])


def sums_of_difference(changed: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """<d,x>, |d|^2 and |x|^2 with d = changed - x, in float64; the same bits for any number of threads.

    Args:
        changed: float32 or float64, one-dimensional without gaps.
        x: The same, of its size; two arrays of float32 are summed in several threads.
    """
    if x.size <= FLAT_TILE or not changed.dtype == x.dtype == np.float32:
        return np.array(_sums(changed, x))
    tiling = cut_flat(x.size)
    found = np.empty((tiling[-1], 3))
    threads.run(_sums_of_tiles, WORDS.pack(tiling=tiling, changed=changed, x=x, found=found), x.size)
    total: NDArray[np.float64] = found.sum(0)
    return total


BUCKETS = 512
"""Numbers of a sketch."""


@kept_njit()
def _place(index):
    """Where an element goes in a sketch, and whether it changes its sign there: bits of splitmix64 (Steele, Lea and
    Flood, OOPSLA 2014) of its index."""
    h = uint64(index) * uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> uint64(27))) * uint64(0x94D049BB133111EB)
    h ^= h >> uint64(31)
    return h & uint64(BUCKETS - 1), h >> uint64(63)


@kept_njit()
def _sketch(changed, x, first, found):
    for i in range(x.size):
        bucket, negative = _place(uint64(first + i))
        g = np.float64(x[i])
        d = np.float64(changed[i]) - g
        if negative:
            d, g = -d, -g
        found[0, bucket] += d
        found[1, bucket] += g


def sketch_of_difference(changed: NDArray[Any], x: NDArray[Any], first: int, found: NDArray[np.float64]) -> None:
    """Add the sketches of changed - x and of x to `found`, (2, BUCKETS).

    Every element is added, its sign changed or not, to one of BUCKETS numbers; both follow from its place. The inner
    product of two sketches is then that of the arrays, on average over such places.

    Args:
        changed: float32 or float64, one-dimensional without gaps.
        x: The same, of its size.
        first: The place of the first element, counted over all arrays that share the sketch.

    Source:
        The count sketch: Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2004.
    """
    _sketch(changed, x, first, found)


@kept_njit()
def _places(first, buckets, signs):
    for i in range(buckets.size):
        bucket, negative = _place(uint64(first + i))
        buckets[i], signs[i] = bucket, -1.0 if negative else 1.0


def sketch_places(first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The bucket and the sign of each of `count` elements from the place `first` on."""
    buckets, signs = np.empty(count, np.int64), np.empty(count)
    _places(first, buckets, signs)
    return buckets, signs
