"""Philox4x32-10 written from the paper, in Python integers."""


def philox_words(seed, stream, count):
    """The numbers of elements 0 .. count - 1."""
    words = []
    for block in range(-(-count // 4)):
        c = [block & 0xFFFFFFFF, block >> 32, stream & 0xFFFFFFFF, stream >> 32]
        k = [seed & 0xFFFFFFFF, seed >> 32]
        words += philox_block(c, k)
    return words[:count]


def philox_block(c, k):
    """The four words of a counter and a key."""
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c
