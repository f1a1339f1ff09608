"""Rounding to nearest with one scale for all of an array without gaps, quick to call for small arrays too."""

from typing import Any

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.bits import INFINITY4, INFINITY8, i8
from formats.kernel.largest import largest_of_run, top_of
from formats.kernel.memory import address_of, pointer4, pointer8
from formats.kernel.nearest import round_run
from formats.kernel.task import ANY, Task
from formats.kernel.threads import thread_count, thread_number

FOUND_AT_ONCE = 2 * threads.MIN_ELEMENTS_PER_THREAD - 1
"""Up to so many elements, which are for one thread, the scale is quickest found in the call that rounds."""

LINE = 64
"""Threads' shares begin at multiples of so many elements, lest two write to one line of the cache."""


@njit(nogil=True)
def _round_flat(w, x, out, grid, fraction_bits, bias):
    """Words: elements, x, out, grid, passing, whether T is to be found, then T, or above, headroom, lowest and highest
    top."""
    number, count = i8(thread_number()), i8(thread_count())
    first, last = w[0] * number // count // LINE * LINE, w[0] * (number + 1) // count // LINE * LINE
    if number + 1 == count:
        last = w[0]
    top = w[6]
    if w[5]:
        top = top_of(i8(largest_of_run(x[: w[0]])), fraction_bits, bias, w[6], w[7], w[8], w[9])
    round_run(x[first:last], out[first:last], top, grid, w[4])


@Task
def _round_flat4(pointer):
    w = carray(pointer, (32,))
    _round_flat(
        w, carray(pointer4(w[1]), (ANY,)), carray(pointer4(w[2]), (ANY,)), carray(pointer8(w[3]), (ANY,)), 23, 127
    )


@Task
def _round_flat8(pointer):
    w = carray(pointer, (32,))
    _round_flat(
        w, carray(pointer8(w[1]), (ANY,)), carray(pointer8(w[2]), (ANY,)), carray(pointer8(w[3]), (ANY,)), 52, 1023
    )


def round_flat(
    x: NDArray[Any],
    out: NDArray[Any],
    top: int | tuple[int, int, int, int],
    grid: NDArray[np.int64],
    keep_infinities: bool,
) -> None:
    """`round_tiles` of C-contiguous arrays with one scale; quicker to call.

    top: T, or the rule by which to find it, as `round_blocks` takes it; one thread then does it all, which is for up to
    FOUND_AT_ONCE elements.
    """
    if not x.size:
        return
    wide = x.itemsize == 8
    passing = (INFINITY8 if wide else INFINITY4) - int(keep_infinities)
    words = [x.size, address_of(x), address_of(out), address_of(grid), passing]
    words += (1, *top) if isinstance(top, tuple) else (0, top)
    threads.run(_round_flat8 if wide else _round_flat4, words, 1 if isinstance(top, tuple) else x.size)
