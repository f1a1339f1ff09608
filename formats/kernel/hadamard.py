"""Random Hadamard transforms of runs of neighbours: signs, then sums and differences of two float32 numbers at once."""

from typing import Any

import numpy as np
from numba import float32, njit
from numpy.typing import NDArray

from formats.kernel import threads
from formats.kernel.threads import share, task
from formats.kernel.words import NUMBER, Words

USUAL = 16
"""The usual length of a run; loops of lengths known when compiled become vector code."""

WORDS = Words(
    lines=NUMBER,
    columns=NUMBER,
    x=float32[::1],
    out=float32[::1],
    signs=float32[::1],
    roots=float32[::1],
    length=NUMBER,
    inverse=NUMBER,
)


@njit(nogil=True, inline="always")
def _stage(run, half, size):
    """Each pair that lies `half` apart becomes its sum and its difference."""
    for base in range(0, size, 2 * half):
        for i in range(base, base + half):
            first, second = run[i], run[i + half]
            run[i] = first + second
            run[i + half] = first - second


@njit(nogil=True)
def _usual_run(run):
    _stage(run, 1, USUAL)
    _stage(run, 2, USUAL)
    _stage(run, 4, USUAL)
    _stage(run, 8, USUAL)


@njit(nogil=True)
def _run(run, size):
    half = 1
    while half < size:
        _stage(run, half, size)
        half *= 2


@task(WORDS)
def _transform_lines(w):
    x, out, signs, roots = w.x, w.out, w.signs, w.roots
    first_line, last_line = share(w.lines)
    for line in range(first_line, last_line):
        begin, end, size, bits = line * w.columns, (line + 1) * w.columns, w.length, 0
        while (1 << bits) < size:
            bits += 1
        at = begin
        while at < end:
            while size > end - at:
                size //= 2
                bits -= 1
            own, run, root = signs[(at - begin) % w.length :], out[at : at + size], roots[bits]
            for i in range(size):
                run[i] = x[at + i] if w.inverse else x[at + i] * own[i]
            if size == USUAL:
                _usual_run(run)
            else:
                _run(run, size)
            for i in range(size):
                scaled = run[i] * root
                run[i] = scaled * own[i] if w.inverse else scaled
            at += size


def transform_lines(
    x: NDArray[np.float32], out: NDArray[np.float32], signs: NDArray[np.float32], inverse: bool
) -> None:
    """Each run of a line times the signs and a Hadamard matrix divided by the root of its length, or back.

    Args:
        x: (lines, columns) float32, C-contiguous. The last run of a line, where it is short, is transformed in pieces
            of powers of two, the largest first.
        out: Of x's shape, C-contiguous, other memory.
        signs: +1 or -1, float32; their number, a power of two, is the length of a run.
        inverse: The transform back.
    """
    if not x.size:
        return
    roots: NDArray[Any] = np.array([1 / np.sqrt(2.0**bits) for bits in range(signs.size.bit_length())], np.float32)
    words = WORDS.pack(
        lines=x.shape[0],
        columns=x.shape[1],
        x=x,
        out=out,
        signs=signs,
        roots=roots,
        length=signs.size,
        inverse=inverse,
    )
    threads.run(_transform_lines, words, x.size)
