"""Philox4x32-10, the counter-based generator behind stochastic rounding, compiled.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 3.3.
The stream of a rounding has key = seed and counter = (element // 4, stream), each 64 bits, low word first; an element's
number is word element % 4. So it depends on nothing but seed, stream and the element's place.
"""

from typing import Any

import numpy as np
from numba import njit

_u8 = np.uint64
MULTIPLIER0, MULTIPLIER1 = 0xD2511F53, 0xCD9E8D57
WEYL0, WEYL1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
_LOW = 0xFFFFFFFF


@njit(nogil=True, inline="always")
def random_words(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Four 32-bit words (each in 64 bits) from a counter and a key of such words."""
    for _ in range(ROUNDS):
        p0 = _u8(MULTIPLIER0) * (c0 & _u8(_LOW))
        p1 = _u8(MULTIPLIER1) * (c2 & _u8(_LOW))
        c0, c2 = (p1 >> _u8(32)) ^ c1 ^ k0, (p0 >> _u8(32)) ^ c3 ^ k1
        c1, c3 = p1 & _u8(_LOW), p0 & _u8(_LOW)
        k0, k1 = (k0 + _u8(WEYL0)) & _u8(_LOW), (k1 + _u8(WEYL1)) & _u8(_LOW)
    return c0, c1, c2, c3


@njit(nogil=True)
def fill(words: Any, first: Any, seed: Any, stream: Any) -> None:
    """The numbers of elements 4 * first, 4 * first + 1, ... into an array of uint32 whose length is a multiple of 4."""
    k0, k1 = _u8(seed) & _u8(_LOW), _u8(seed) >> _u8(32)
    c2, c3 = _u8(stream) & _u8(_LOW), _u8(stream) >> _u8(32)
    for j in range(words.size // 4):
        counter = _u8(first) + _u8(j)
        w0, w1, w2, w3 = random_words(counter & _u8(_LOW), counter >> _u8(32), c2, c3, k0, k1)
        words[4 * j] = w0
        words[4 * j + 1] = w1
        words[4 * j + 2] = w2
        words[4 * j + 3] = w3


@njit(nogil=True)
def one(element: Any, seed: Any, stream: Any) -> Any:
    """The number of one element."""
    words = np.empty(4, np.uint32)
    fill(words, _u8(element) >> _u8(2), seed, stream)
    return words[_u8(element) & _u8(3)]
