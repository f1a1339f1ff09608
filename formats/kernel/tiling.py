"""How an array is cut into tiles, for callers and for compiled code.

Every tiled task works on an array seen as (batch, rows, columns) with neighbouring columns side by side in memory, cut
into tiles.
"""

from typing import Any

from numba import njit
from numpy.typing import NDArray

from formats.kernel.threads import share

TILING = "rows columns tile_rows tile_columns down across tiles"
"""The first words of such a task: the array's rows and columns, those of a tile, tiles down and across, all tiles."""

FLAT_TILE = 1 << 14
"""Elements of a tile where all have one scale: few enough to share among threads, enough to hide the cost of a call."""

CHUNK = 1024
"""Elements whose steps, random numbers or the like are kept at a time, so that they stay in the first-level cache."""


@njit(nogil=True, inline="always")
def tiles_of_thread(w):
    """First and last tile of this thread."""
    return share(w.tiles)


@njit(nogil=True, inline="always")
def place(w, tile):
    """Batch, tile row, tile column, first and last row, first column and width of a tile."""
    batch, rest = tile // (w.down * w.across), tile % (w.down * w.across)
    down, across = rest // w.across, rest % w.across
    row, column = down * w.tile_rows, across * w.tile_columns
    last = min(row + w.tile_rows, w.rows)
    return batch, down, across, row, last, column, min(w.tile_columns, w.columns - column)


def cut(x: NDArray[Any], tile: tuple[int, int], tiles: tuple[int, int, int]) -> tuple[int, ...]:
    """The words of `TILING` for x of shape (batch, rows, columns)."""
    return (x.shape[1], x.shape[2], *tile, tiles[1], tiles[2], tiles[0] * tiles[1] * tiles[2])


def cut_flat(elements: int) -> tuple[int, ...]:
    """The same for so many elements that lie without gaps and have one scale."""
    tiles = -(-elements // FLAT_TILE)
    return (1, elements, 1, FLAT_TILE, 1, tiles, tiles)


def strides(x: NDArray[Any]) -> tuple[int, ...]:
    """Strides of an array in elements."""
    return tuple(stride // x.itemsize for stride in x.strides)
