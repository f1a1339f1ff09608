"""Rounding to nearest with scales that are known."""

from typing import Any

import numpy as np
from numba import int64
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.addition import round_run
from formats.kernel.bits import largest_rounded
from formats.kernel.threads import task_for_each_size
from formats.kernel.tiling import TILING, cut, place, strides, tiles_of_thread
from formats.kernel.words import BITS, NUMBER, Words

WORDS = Words(
    tiling=TILING,
    x=BITS,
    x_strides="x_batch x_row",
    out=BITS,
    out_strides="out_batch out_row",
    tops=int64[::1],
    tops_strides="tops_batch tops_down tops_across",
    grid=int64[::1],
    passing=NUMBER,
)


@task_for_each_size(WORDS)
def _round_tiles(w):
    x, out, tops, grid = w.x, w.out, w.tops, w.grid
    first, last = tiles_of_thread(w)
    for tile in range(first, last):
        batch, down, across, row, end, column, width = place(w, tile)
        top = tops[batch * w.tops_batch + down * w.tops_down + across * w.tops_across]
        for r in range(row, end):
            at, to = batch * w.x_batch + r * w.x_row + column, batch * w.out_batch + r * w.out_row + column
            round_run(x[at : at + width], out[to : to + width], top, grid, w.passing)


def round_tiles(
    x: NDArray[Any],
    out: NDArray[Any],
    tile: tuple[int, int],
    tops: NDArray[np.int64],
    grid: NDArray[np.int64],
    keep_infinities: bool,
) -> None:
    """Round x into out, to nearest by `formats.rounding.rounded`.

    Args:
        x: float32 or float64 of shape (batch, rows, columns), with unit stride along columns.
        out: Where to put the result, of x's shape and dtype, with unit stride along columns; may be x itself.
        tile: Rows and columns that share a scale.
        tops: T of each tile, int64 of shape (batch, tiles down, tiles across), any strides, inside the profile's range.
        grid: The profile as `describe` gives it.
        keep_infinities: Whether infinities stay instead of saturating. NaN always stays.
    """
    if not x.size:
        return
    words = WORDS.pack(
        tiling=cut(x, tile, tops.shape),
        x=x,
        x_strides=strides(x)[:2],
        out=out,
        out_strides=strides(out)[:2],
        tops=tops,
        tops_strides=strides(tops),
        grid=grid,
        passing=largest_rounded(x, keep_infinities),
    )
    threads.run(_round_tiles[x.itemsize], words, x.size)
