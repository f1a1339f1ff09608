"""The sums from which the angle between an array and its rounded or otherwise changed copy follows."""

from typing import Any

import numpy as np
from numba import float32, float64
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
