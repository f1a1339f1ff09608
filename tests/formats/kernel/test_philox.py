"""The generator of random numbers."""

import numpy as np

from formats.kernel.philox import fill
from tests.formats.philox import philox_block, philox_words


def test_philox_known_answers():
    """The vectors that Random123 publishes for philox4x32-10."""
    f = 0xFFFFFFFF
    assert philox_block([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox_block([f] * 4, [f] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert philox_block(pi, [0xA4093822, 0x299F31D0]) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_the_compiled_generator():
    for seed, stream in ((0, 0), (1, 2), (0xFFFFFFFFFFFFFFFF, 0x123456789ABCDEF0)):
        words = np.zeros(64, np.uint32)
        fill(words, 0, np.uint64(seed), np.uint64(stream))
        assert words.tolist() == philox_words(seed, stream, 64)
    far = np.zeros(4, np.uint32)
    fill(far, 1 << 33, np.uint64(5), np.uint64(6))
    assert far.tolist() == philox_block([0, 2, 6, 0], [5, 0])
