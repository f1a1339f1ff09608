"""Rounding to nearest with scales that are known."""

from typing import Any

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import INFINITY4, INFINITY8
from formats.kernel.memory import address_of, pointer4, pointer8
from formats.kernel.nearest import round_run
from formats.kernel.task import ANY, Task, layout, place, share, strides


@njit(nogil=True)
def _round_tiles(w, x, out, tops, grid):
    """Arguments: x and its batch and row stride, out and its strides, tops and their three strides, grid, passing."""
    first, last = share(w)
    for tile in range(first, last):
        batch, down, across, row, end, column, width = place(w, tile)
        top = tops[batch * w[14] + down * w[15] + across * w[16]]
        for r in range(row, end):
            at, to = batch * w[8] + r * w[9] + column, batch * w[11] + r * w[12] + column
            round_run(x[at : at + width], out[to : to + width], top, grid, w[18])


@Task
def _round_tiles4(pointer):
    w = carray(pointer, (32,))
    tops, grid = carray(pointer8(w[13]), (ANY,)), carray(pointer8(w[17]), (ANY,))
    _round_tiles(w, carray(pointer4(w[7]), (ANY,)), carray(pointer4(w[10]), (ANY,)), tops, grid)


@Task
def _round_tiles8(pointer):
    w = carray(pointer, (32,))
    tops, grid = carray(pointer8(w[13]), (ANY,)), carray(pointer8(w[17]), (ANY,))
    _round_tiles(w, carray(pointer8(w[7]), (ANY,)), carray(pointer8(w[10]), (ANY,)), tops, grid)


def round_tiles(
    x: NDArray[Any],
    out: NDArray[Any],
    tile: tuple[int, int],
    tops: NDArray[np.int64],
    grid: NDArray[np.int64],
    keep_infinities: bool,
) -> None:
    """Round x into out, both (batch, rows, columns) float32 or float64 with unit stride along columns.

    tops: (batch, tiles down, tiles across), any strides, inside the profile's range.
    """
    if not x.size:
        return
    wide = x.dtype == np.float64
    passing = (INFINITY8 if wide else INFINITY4) - int(keep_infinities)
    threads.run(
        _round_tiles8 if wide else _round_tiles4,
        [
            *layout(x, tile, tops.shape),  # type: ignore[arg-type]
            *(address_of(x), *strides(x)[:2]),
            *(address_of(out), *strides(out)[:2]),
            *(address_of(tops), *strides(tops)),
            *(address_of(grid), passing),
        ],
        x.size,
    )
