"""Few elements times scales that are products: to nearest and stochastic rounding of float32 numbers in NVFP4.

A tie between two elements, times a scale, is a float64 number, as is a value before it is rounded to float32; so
comparing decides everything, and no number is divided (formats/kinds/nvfp4.py says why that is exact).
"""

import numpy as np
from numba import float32, float64, int64, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.exact import MODES, NEAREST
from formats.kernel.neighbours import reaches
from formats.kernel.philox import fill
from formats.kernel.scaled import spread
from formats.kernel.threads import share_of_multiples, task
from formats.kernel.tiling import CHUNK
from formats.kernel.words import NUMBER, UNSIGNED, Words
from formats.rounding import ModeChoice


@njit(nogil=True)
def _nearest(x, each, elements, ties, up, value):
    """The element nearest to each |x| / scale; 0 for NaN."""
    value[:] = 0
    for t in range(ties.size):
        step, tie = elements[t + 1] - elements[t], ties[t]
        if up[t]:
            for i in range(x.size):
                value[i] += step if np.float64(abs(x[i])) >= tie * each[i] else 0.0
        else:
            for i in range(x.size):
                value[i] += step if np.float64(abs(x[i])) > tie * each[i] else 0.0


@njit(nogil=True)
def _reached(x, each, elements, low, high):
    """The values around each |x|: the largest not above it, and the next; the largest of all where there is none."""
    low[:] = 0
    for i in range(x.size):
        high[i] = np.float64(np.float32(elements[1] * each[i]))
    for t in range(1, elements.size):
        following = elements[min(t + 1, elements.size - 1)]
        for i in range(x.size):
            reached = np.float64(np.float32(elements[t] * each[i]))
            if reached <= np.float64(abs(x[i])):
                low[i] = reached
                high[i] = np.float64(np.float32(following * each[i]))


WORDS = Words(
    elements=NUMBER,
    x=float32[::1],
    out=float32[::1],
    scales=float64[::1],
    scale_count=NUMBER,
    run=NUMBER,
    line=NUMBER,
    values=float64[::1],
    value_count=NUMBER,
    ties=float64[::1],
    up=int64[::1],
    infinite=NUMBER,
    mode=NUMBER,
    seed=UNSIGNED,
    stream=UNSIGNED,
)


@task(WORDS)
def _round_elements(w):
    x, out, scales = w.x, w.out, w.scales[: w.scale_count]
    values, ties, up = w.values[: w.value_count], w.ties[: w.value_count - 1], w.up[: w.value_count - 1]
    first, last = share_of_multiples(w.elements, CHUNK)
    each, low, high = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    random = np.zeros(CHUNK, np.uint32)
    for at in range(first, last, CHUNK):
        count = min(CHUNK, last - at)
        own = x[at : at + count]
        spread(scales, w.run, w.line, at, each[:count])
        if w.mode == NEAREST:
            _nearest(own, each, values, ties, up, low[:count])
            for i in range(count):
                low[i] = np.float64(np.float32(low[i] * each[i]))
        else:
            fill(random[: (count + 3) // 4 * 4], at // 4, w.seed, w.stream)
            _reached(own, each, values, low[:count], high[:count])
            for i in range(count):
                a = np.float64(abs(own[i]))
                if low[i] < a and low[i] < high[i] and reaches(a, low[i], high[i], random[i]):
                    low[i] = high[i]
        for i in range(count):
            passes = np.isnan(own[i]) or (w.infinite and np.isinf(own[i]))
            out[at + i] = own[i] if passes else np.copysign(np.float32(low[i]), own[i])


def round_elements(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    scales: NDArray[np.float64],
    run: int,
    line: int,
    elements: NDArray[np.float64],
    ties: NDArray[np.float64],
    up: NDArray[np.bool_],
    keep_infinities: bool,
    mode: ModeChoice,
) -> None:
    """Each number to an element times its scale, by `formats.rounding.rounded` of their quotient, rounded to float32,
    into out; NaN stays.

    Args:
        x: float32, one-dimensional without gaps.
        out: The same.
        scales: Nonnegative, such that products with elements and ties are exact; each holds for `run` elements, in turn
            and over again.
        run: See scales.
        line: A run also ends with every so many elements.
        elements: Magnitudes, ascending, zero first.
        ties: Their midpoints.
        up: Whether a tie goes to the upper of the two.
        keep_infinities: Else they saturate.
        mode: To nearest or stochastic, with random numbers by an element's place.
    """
    if not x.size:
        return
    words = WORDS.pack(
        elements=x.size,
        x=x,
        out=out,
        scales=scales,
        scale_count=scales.size,
        run=run,
        line=line,
        values=elements,
        value_count=elements.size,
        ties=ties,
        up=up.astype(np.int64),
        infinite=int(keep_infinities),
        mode=MODES[mode.rounding],
        seed=mode.seed,
        stream=mode.stream,
    )
    threads.run(_round_elements, words, x.size)
