"""Proof that rounding is right for every float32, format by format.

    python -m tests.formats.prove [NAME ...]

The rounding to be proved is a step function. If it never decreases from one float32 to the next over all of them, and
is right at every value and on both
sides of every threshold, it is right everywhere: between two neighbouring thresholds it is caught between equal
results. So all 2^31 magnitudes of both signs go through the kernel (NaN must stay NaN, and the negative half must
mirror the positive), and the exact reference judges values and thresholds. Prints a line a format and ends with status
1 if one fails.
"""

import sys
import time

import numpy as np
from numba import int64, njit

import formats
from formats.kernel import threads
from formats.kernel.addition import round4
from formats.kernel.threads import share_of_multiples, task, thread_number
from formats.kernel.words import NUMBER, Words
from tests.formats.reference import UNIT, Reference

CHUNK = 1 << 14
INFINITY = 0x7F800000
NAN_PATTERNS = (1 << 31) - 1 - INFINITY


@njit(nogil=True)
def _scan(first, last, top, grid):
    """Patterns out of order, not mirrored, or NaN that is none, among those from `first` up to `last`."""
    x, out, mirrored = np.empty(CHUNK + 1, np.int32), np.empty(CHUNK + 1, np.int32), np.empty(CHUNK + 1, np.int32)
    falls, unlike, lost = 0, 0, 0
    for start in range(first, last, CHUNK):
        # One before the chunk as well, so that the seam is compared.
        before = 1 if start > 0 else 0
        count = min(CHUNK, last - start) + before
        for i in range(count):
            x[i] = np.int32(start - before + i)
        round4(x[:count], out[:count], top, grid, INFINITY)
        for i in range(count):
            x[i] |= np.int32(-(1 << 31))
        round4(x[:count], mirrored[:count], top, grid, INFINITY)
        for i in range(count):
            unlike += np.int32(out[i] | np.int32(-(1 << 31))) != mirrored[i]
        if start + count <= INFINITY:
            for i in range(1, count):
                falls += out[i] < out[i - 1]
        else:
            for i in range(1, count):
                pattern = start - before + i
                falls += pattern <= INFINITY and out[i] < out[i - 1]
                lost += pattern > INFINITY and out[i] <= INFINITY
    return falls, unlike, lost


WORDS = Words(patterns=NUMBER, top=NUMBER, grid=int64[::1], found=int64[::1])


@task(WORDS)
def _scan_share(w):
    number, found = thread_number(), w.found
    first, last = share_of_multiples(w.patterns, CHUNK)
    falls, unlike, lost = _scan(first, last, w.top, w.grid)
    found[3 * number], found[3 * number + 1], found[3 * number + 2] = falls, unlike, lost


def scan(grid, top, patterns=1 << 31):
    """Falls, unlike halves and lost NaNs over the first `patterns` magnitudes."""
    count = threads.threads_for(patterns)
    found = np.zeros((count, 3), np.int64)
    threads.run_on(_scan_share, WORDS.pack(patterns=patterns, top=top, grid=grid, found=found), count)
    return found.sum(0).tolist()


def judge(rounding, profile, top, largest=None):
    """Values and both sides of every threshold, by the exact reference: how many were tried, and the first that is
    wrong."""
    reference = Reference(profile, top)
    if largest is not None:
        reference.values = [
            value for value in reference.values if value <= largest * 2 ** (UNIT + top - profile[0] + 1)
        ]
    exact = np.array([value / (1 << UNIT) for value in reference.hard_inputs()])
    # The threshold itself or the float32 around it; three neighbours on each side cover both cases.
    x = exact.astype(np.float32)
    for _ in range(2):
        x = x[np.isfinite(x)]
        x = np.unique(np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(0))]))
    got = rounding(x)
    want = np.array([reference.round(float(value)) for value in x])
    wrong = np.flatnonzero(got != want)
    return len(x), "" if not wrong.size else f"{float(x[wrong[0]]).hex()} gives {got[wrong[0]]}, not {want[wrong[0]]}"


def prove(format, top, patterns=1 << 31):
    """A line of text, and whether the format is proved."""
    began = time.monotonic()
    falls, unlike, lost = scan(format.grid.words, top, patterns)
    tried, first = judge(lambda x: format.round(x, top=top), format.profile, top, format.largest)
    good = not (falls or unlike or lost or first)
    verdict = "exact for all float32" if good else f"{falls} falls, {unlike} unlike halves, {lost} lost NaN; {first}"
    return (
        f"{format.name:24} T = {top:4} {tried:6} thresholds and values  {verdict}  {time.monotonic() - began:.1f} s",
        good,
    )


def subjects():
    """All tensor-scaled formats of the catalogue at T = 0, and the finite grids of the standards at theirs."""
    found = [(format, 0) for format in formats.catalogue() if format.granularity == "tensor"]
    standards = [formats.get(name) for name in formats.STANDARDS]
    # E8M0 has no zero to round to and NF4 no profile; their tests compare them with references of their own.
    return found + [
        (entry, entry.top) for entry in standards if isinstance(entry, formats.StandardFormat) and entry.zero
    ]


def main():
    names = sys.argv[1:]
    chosen = [(formats.get(name), 0) for name in names] if names else subjects()
    began, failures = time.monotonic(), 0
    for format, top in chosen:
        line, good = prove(format, top)
        failures += not good
        print(line, flush=True)
    print(f"{len(chosen) - failures} of {len(chosen)} proved in {time.monotonic() - began:.0f} s")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
