"""Encoded arrays: codes together with the scale that gives them a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from formats.emulated import Emulated


def check_codes(codes: ArrayLike, bits: int, name: str) -> NDArray[Any]:
    """codes as an array of whole numbers of `bits` bits; TypeError or ValueError where they are not."""
    given = np.asarray(codes)
    if given.dtype.kind not in "iu":
        raise TypeError(f"codes of {given.dtype} were given; whole numbers are needed")
    if given.size and (given.min() < 0 or given.max() >= 1 << bits):
        raise ValueError(f"codes from {given.min()} to {given.max()} were given; {name} has 0 to {(1 << bits) - 1}")
    return given


def code_type(bits: int) -> type[np.unsignedinteger[Any]]:
    """The unsigned type that holds codes of so many bits."""
    return np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32


@dataclass(frozen=True, eq=False)
class Codes:
    """What `encode` returns.

    codes: unsigned integers of the input's shape, as wide as the format needs. top: the scale, as the format's `find_top` gives it: int64 top
        exponents of the group shape, float32 scales, or NVFP4Scales. format: what encoded them.

    `decode` gives float32 of the shape of the codes. Source: docs/formats.md section 3.

    >>> import formats, numpy as np
    >>> q = formats.get("FP134").encode(np.float32([1.0, -0.3]))
    >>> q.codes, int(q.top), q.decode()
    (array([112, 211], dtype=uint8), 0, array([ 1.       , -0.296875], dtype=float32))
    """

    codes: NDArray[Any]
    top: Any
    format: Emulated

    def decode(self) -> NDArray[np.float32]:
        """The float32 values that the codes stand for; equal to `round` of the input as numbers."""
        return self.format.decode(self.codes, self.top)

    def pack(self) -> NDArray[np.uint8]:
        """The codes as a dense stream of bits: uint8, ceil(count * bits / 8) of them.

        Code number i, in row-major order, is bits i * bits to (i + 1) * bits - 1 of the stream, its lowest bit first; bit k of the stream is bit
        k % 8 of byte k // 8. What is left of the last byte is 0.
        """
        bits = self.format.bits
        flat = np.ascontiguousarray(self.codes).reshape(-1, 1)
        single = (flat >> np.arange(bits, dtype=flat.dtype)).astype(np.uint8) & 1
        return np.packbits(single.reshape(-1), bitorder="little")


def unpack(packed: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """The codes that `Codes.pack` packed: uint8 (uint16 above 8 bits) of this shape.

    Raises ValueError where the stream does not have the length that the shape needs.

    packed: uint8, one-dimensional. bits: the width of a code. Source: the order of bits is described in `Codes.pack`.

    >>> import formats, numpy as np
    >>> q = formats.get("INT4").encode(np.float32([1.0, -0.3, 0.5]))
    >>> formats.unpack(q.pack(), 4, (3,)).tolist() == q.codes.tolist()
    True
    """
    count = math.prod(shape)
    needed = -(-count * bits // 8)
    stream = np.asarray(packed)
    if stream.dtype != np.uint8 or stream.shape != (needed,):
        raise ValueError(f"{stream.dtype} of shape {stream.shape} was given; {count} codes of {bits} bits are {needed} uint8")
    single = np.unpackbits(stream, count=count * bits, bitorder="little").reshape(count, bits)
    weights: NDArray[Any] = (1 << np.arange(bits)).astype(code_type(bits))
    return (single @ weights).reshape(shape)
