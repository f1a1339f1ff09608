"""Rounding to nearest with one scale for all of an array without gaps, quick to call for small arrays too."""

from typing import Any

import numpy as np
from numba import int64
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.addition import round_run
from formats.kernel.bits import i8, largest_rounded
from formats.kernel.largest import NO_RULE, RULE, largest_of_run, top_of
from formats.kernel.threads import share_of_multiples, task_for_each_size
from formats.kernel.words import BITS, NUMBER, Words

FOUND_AT_ONCE = 2 * threads.MIN_ELEMENTS_PER_THREAD - 1
"""Up to so many elements, which are for one thread, the scale is quickest found in the call that rounds."""

LINE = 64
"""Threads' shares begin at multiples of so many elements, lest two write to one line of the cache."""

WORDS = Words(elements=NUMBER, x=BITS, out=BITS, grid=int64[::1], passing=NUMBER, top=NUMBER, finds=NUMBER, rule=RULE)


@task_for_each_size(WORDS)
def _round_flat(w):
    x, out = w.x, w.out
    first, last = share_of_multiples(w.elements, LINE)
    top = w.top
    if w.finds:
        top = top_of(i8(largest_of_run(x[: w.elements])), x, w)
    round_run(x[first:last], out[first:last], top, w.grid, w.passing)


def round_flat(
    x: NDArray[Any],
    out: NDArray[Any],
    top: int | tuple[int, int, int, int],
    grid: NDArray[np.int64],
    keep_infinities: bool,
) -> None:
    """`round_tiles` of arrays with one scale, quicker to call; the rule is `formats.rounding.rounded`.

    Args:
        x: float32 or float64, C-contiguous.
        out: Of x's shape and dtype, C-contiguous; may be x itself.
        top: T, or the words of `RULE` by which to find it; one thread then does it all, which is for up to
            FOUND_AT_ONCE elements.
        grid: As for `round_tiles`.
        keep_infinities: As for `round_tiles`.
    """
    if not x.size:
        return
    finds = isinstance(top, tuple)
    words = WORDS.pack(
        elements=x.size,
        x=x,
        out=out,
        grid=grid,
        passing=largest_rounded(x, keep_infinities),
        top=0 if finds else top,
        finds=finds,
        rule=top if finds else NO_RULE,
    )
    threads.run(_round_flat[x.itemsize], words, 1 if finds else x.size)
