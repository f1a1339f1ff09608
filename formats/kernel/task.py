"""What `formats.kernel.threads` runs: a compiled function of a pointer to 64-bit words, and how an array is cut for
it."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import CellType, FunctionType
from typing import Any

from numba import cfunc, njit, types
from numpy.typing import NDArray

from formats.kernel.bits import i8
from formats.kernel.memory import address_of
from formats.kernel.threads import thread_count, thread_number

ANY = 1 << 62
"""The length given to arrays made from a bare address."""

CHUNK = 1024
"""Elements whose steps, random numbers or the like are kept at a time, so that they stay in the first-level cache."""

_compiling = threading.Lock()


def _sources() -> str:
    """A stamp of the files that the tasks are compiled from."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py"))]
    return repr([(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files])


_SOURCES = _sources()


class Task:
    """A function of a pointer to 64-bit words; compiled, or read from numba's cache, when its address is first asked
    for."""

    def __init__(self, function: Callable[[Any], None]) -> None:
        # numba's cache notices a change of the file that a function stands in, and not of those that it calls into.
        # What a function closes over is part of its key there: so it is made to close over a stamp of all of them.
        code = function.__code__.replace(co_freevars=("sources",))
        self._function = FunctionType(code, function.__globals__, function.__name__, None, (CellType(_SOURCES),))
        self._compiled: Any = None

    @property
    def address(self) -> int:
        """Where the compiled function begins."""
        if self._compiled is None:
            with _compiling:
                if self._compiled is None:
                    self._compiled = cfunc(types.void(types.CPointer(types.int64)), cache=True)(self._function)
        return int(self._compiled.address)


# Every task works on an array seen as (batch, rows, columns) with neighbouring columns side by side in memory, cut
# into tiles. Words: rows, columns, rows and columns of a tile, tiles down and across, all tiles, then as each task
# says.
ROWS, COLUMNS, TILE_ROWS, TILE_COLUMNS, DOWN, ACROSS, TILES = range(7)


@njit(nogil=True, inline="always")
def share(w):
    """First and last tile of this thread."""
    number, count = i8(thread_number()), i8(thread_count())
    return w[TILES] * number // count, w[TILES] * (number + 1) // count


@njit(nogil=True, inline="always")
def place(w, tile):
    """Batch, tile row, tile column, first and last row, first column and width of a tile."""
    batch, rest = tile // (w[DOWN] * w[ACROSS]), tile % (w[DOWN] * w[ACROSS])
    down, across = rest // w[ACROSS], rest % w[ACROSS]
    row, column = down * w[TILE_ROWS], across * w[TILE_COLUMNS]
    last = min(row + w[TILE_ROWS], w[ROWS])
    return batch, down, across, row, last, column, min(w[TILE_COLUMNS], w[COLUMNS] - column)


def layout(x: NDArray[Any], tile: tuple[int, int], tiles: tuple[int, int, int]) -> list[int]:
    return [x.shape[1], x.shape[2], *tile, tiles[1], tiles[2], tiles[0] * tiles[1] * tiles[2]]


def signed_word(word: int) -> int:
    """A number of 64 bits as a task's words hold it."""
    return word - (1 << 64) if word >> 63 else word


def strides(x: NDArray[Any]) -> list[int]:
    return [stride // x.itemsize for stride in x.strides]


FLAT_TILE = 1 << 14
"""Elements of a tile where all have one scale: few enough to share among threads, enough to hide the cost of a call."""


def flat(x: NDArray[Any]) -> list[int]:
    tiles = -(-x.size // FLAT_TILE)
    return [1, x.size, 1, FLAT_TILE, 1, tiles, tiles, address_of(x), 0, 0]
