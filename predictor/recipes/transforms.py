"""Random Hadamard transforms along the contraction of a product: orthogonal, so that the product of two transformed
operands is that of the operands themselves (docs/definitions/recipes.md section 2)."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from formats import kernel


def signs(length: int, seed: int) -> Tensor:
    """`length` random signs, +1 or -1 (float32), that the seed (below 2^64) decides."""
    drawn = hashlib.shake_128(b"signs" + seed.to_bytes(8, "little")).digest(-(-length // 8))
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[:length]
    return torch.from_numpy(1 - 2 * bits.astype(np.float32))


def transformed(lines: Tensor, length: int, seed: int, inverse: bool = False) -> Tensor:
    """Each line's runs of `length` elements times random signs and a Hadamard matrix, divided by the root of `length`.

    The last run of a line, where it is short, is transformed in pieces of powers of two, the largest first. Sums are
    those of float32, two numbers at a time.

    Args:
        lines: (lines, columns) float32.
        length: a power of two.
        seed: of the signs, which are the same for every run.
        inverse: the transform back.
    """
    out = torch.empty_like(lines, memory_format=torch.contiguous_format)
    of_run = signs(length, seed).to(lines.device)
    if lines.is_cpu and lines.dtype is torch.float32:
        kernel.transform_lines(lines.detach().contiguous().numpy(), out.numpy(), of_run.numpy(), inverse)
        return out
    columns, first, size = lines.shape[1], 0, length
    while first < columns:
        while size > columns - first:
            size //= 2
        whole = (columns - first) // size * size
        part = lines[:, first : first + whole].reshape(-1, size)
        own = of_run[first % length :][:size]
        moved = butterflies(part, size) * own if inverse else butterflies(part * own, size)
        out[:, first : first + whole] = moved.reshape(lines.shape[0], whole)
        first += whole
    return out


def butterflies(runs: Tensor, size: int) -> Tensor:
    """Runs (n, size) times the Hadamard matrix of this size, divided by its square root."""
    half = 1
    while half < size:
        pairs = runs.reshape(-1, 2, half)
        runs = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), 1)
        half *= 2
    return runs.reshape(-1, size) * (1 / math.sqrt(size))
