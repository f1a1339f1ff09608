"""Rounding float32 by a table of values."""

from functools import lru_cache

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from formats import threads
from formats.arrays import address_of
from formats.kernel.bits import INFINITY4, MAGNITUDE4, SIGN4, as_bits, as_float, i4, i8, pointer4, pointer_float, pointer_short
from formats.kernel.task import ANY, CHUNK, Task
from formats.threads import thread_count, thread_number

FEW_STEPS = 32
"""Up to so many thresholds it is quicker to count those that a number reaches than to search them."""


@njit(nogil=True)
def _look_up(x, out, steps, starts, values, copy_sign, passing):
    """values[k] for each float32 bits of x, k the number of `steps` at or below it (of its magnitude where the sign is copied).

    starts: that number for the smallest float of each upper half of the bits, from which the search goes on.
    """
    index = np.zeros(CHUNK, np.int32)
    mask = i4(MAGNITUDE4) if copy_sign else i4(-1)
    for start in range(0, x.size, CHUNK):
        count = min(CHUNK, x.size - start)
        part, to = x[start : start + count], out[start : start + count]
        if steps.size <= FEW_STEPS:
            index[:count] = 0
            for step in steps:
                for i in range(count):
                    index[i] += as_float(i4(part[i] & mask)) >= step
        else:
            for i in range(count):
                bits = i4(part[i] & mask)
                number, at = as_float(bits), i8(starts[np.uint32(bits) >> np.uint32(16)])
                while at < steps.size and number >= steps[at]:
                    at += 1
                index[i] = at
        for i in range(count):
            u = part[i]
            a = i4(u & i4(MAGNITUDE4))
            y = as_bits(values[index[i]])
            y = i4(y | i4(u & i4(SIGN4))) if copy_sign else y
            to[i] = u if a > passing else y


@Task
def _look_up_task(pointer):
    w = carray(pointer, (32,))
    number, count = i8(thread_number()), i8(thread_count())
    first, last = w[0] * number // count, w[0] * (number + 1) // count
    x, out = carray(pointer4(w[1]), (ANY,)), carray(pointer4(w[2]), (ANY,))
    steps, values = carray(pointer_float(w[3]), (ANY,))[: w[4]], carray(pointer_float(w[5]), (ANY,))
    starts = carray(pointer_short(w[8]), (ANY,))
    _look_up(x[first:last], out[first:last], steps, starts, values, w[6] != 0, i4(w[7]))


@lru_cache(maxsize=64)
def _starts(steps: bytes) -> NDArray[np.uint16]:
    """How many steps the smallest float32 with each upper half of its bits reaches; 0 for NaN, which does not matter."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    # Among negative numbers the one with all lower bits set is the smallest.
    smallest = np.where(upper >> 31, upper | 0xFFFF, upper).astype(np.uint32).view(np.float32)
    found = np.searchsorted(np.frombuffer(steps, np.float32), smallest, side="right")
    return np.where(np.isnan(smallest), 0, found).astype(np.uint16)


def look_up(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    steps: NDArray[np.float32],
    values: NDArray[np.float32],
    copy_sign: bool,
    keep_infinities: bool,
) -> None:
    """Round C-contiguous x into out by a table: values[k], where k is how many of the ascending `steps` a number reaches."""
    if not x.size:
        return
    starts = _starts(steps.tobytes()) if len(steps) > FEW_STEPS else np.zeros(1, np.uint16)
    passing = INFINITY4 - int(keep_infinities)
    words = [x.size, address_of(x), address_of(out), address_of(steps), len(steps), address_of(values), int(copy_sign), passing]
    threads.run(_look_up_task, [*words, address_of(starts)], x.size)
