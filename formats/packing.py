"""Codes as a dense stream of bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.checks import code_type


def pack(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Codes of so many bits one after the other; `Codes.pack` describes the order."""
    flat = np.ascontiguousarray(codes).reshape(-1, 1)
    single = (flat >> np.arange(bits, dtype=flat.dtype)).astype(np.uint8) & 1
    return np.packbits(single.reshape(-1), bitorder="little")


def unpack(packed: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """The codes that `Codes.pack` packed.

    Args:
        packed: uint8, one-dimensional, in the order of bits that `Codes.pack` describes.
        bits: the width of a code.
        shape: of the codes.

    Returns:
        uint8 of this shape; uint16 above 8 bits, uint32 above 16.

    Raises:
        ValueError: where the stream does not have the length that the shape needs.

    Source:
        docs/definitions/formats.md section 3.

    >>> import formats, numpy as np
    >>> q = formats.get("INT4").encode(np.float32([1.0, -0.3, 0.5]))
    >>> formats.unpack(q.pack(), 4, (3,)).tolist() == q.codes.tolist()
    True
    """
    count = math.prod(shape)
    needed = -(-count * bits // 8)
    stream = np.asarray(packed)
    if stream.dtype != np.uint8 or stream.shape != (needed,):
        raise ValueError(
            f"{stream.dtype} of shape {stream.shape} was given; {count} codes of {bits} bits are {needed} uint8"
        )
    single = np.unpackbits(stream, count=count * bits, bitorder="little").reshape(count, bits)
    weights: NDArray[Any] = (1 << np.arange(bits)).astype(code_type(bits))
    return (single @ weights).reshape(shape)
