"""Block formats as something to verify against: inputs laid out in blocks whose scale is known, and blocks of random
scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.conformance.inputs import Category, Inputs, inputs_by_category
from formats.conformance.reference import FixedReference
from formats.kinds.microscaling import MicroscalingFormat
from formats.kinds.nvfp4 import ELEMENT, LARGEST, NVFP4Format
from formats.kinds.profile_format import ProfileFormat
from formats.scale import Granularity


@dataclass(frozen=True)
class BlockReference:
    """A format with a scale per run of `block` elements.

    element: the format of one element. top: the top exponent at which elements are checked: that of an MX scale of 1,
    else 0.
    """

    format: ProfileFormat | NVFP4Format
    element: ProfileFormat
    top: int
    block: int

    @property
    def name(self) -> str:
        return self.format.name

    def round(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(self.format.round(x), np.float64)

    def arranged(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Those of x below the next power of two above the largest value (and NaN), in blocks that begin with the
        largest value.

        So all blocks have the scale at which the elements are checked, and where there is a scale of the tensor, that
        is 1. The last block is filled up with zeros.
        """
        # Negated so that NaN stays.
        x = x[~(np.abs(x) >= 2.0 ** (self.top + 1))]
        count = -(-len(x) // (self.block - 1))
        rows = np.zeros((count, self.block), np.float32)
        rows[:, 0] = self.element.max(self.top)
        rows[:, 1:].flat[: len(x)] = x
        whole = rows.reshape(-1)
        if isinstance(self.format, NVFP4Format) and count:
            whole = np.concatenate([np.array([LARGEST], np.float32), np.zeros(self.block - 1, np.float32), whole])
        return whole

    def random(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Blocks of finite float32 numbers, about `count` in all: some of one magnitude, some of any, each block of a
        random one."""
        rows = max(count // self.block, 1)
        patterns = rng.integers(0, 1 << 32, (rows, self.block), dtype=np.uint32)
        spread = np.array([0, 3, 12, 254])[rng.integers(0, 4, rows)][:, None]
        exponents = np.clip(rng.integers(0, 255, (rows, 1)) - rng.integers(0, spread + 1, patterns.shape), 0, 254)
        patterns = (patterns & np.uint32(0x807FFFFF)) | (exponents.astype(np.uint32) << np.uint32(23))
        return patterns.view(np.float32).reshape(-1)


def block_reference(format: Any) -> BlockReference | None:
    """The reference of a format with one scale for each run of elements; None for other formats."""
    if not isinstance(format, ProfileFormat | NVFP4Format) or format.granularity is not Granularity.BLOCK:
        return None
    block = format.scale.block
    if not isinstance(block, int) or block < 2 or format.scale.axis not in (-1, 0):
        return None
    if isinstance(format, NVFP4Format):
        return BlockReference(format, ProfileFormat(ELEMENT.profile, ELEMENT.bits), ELEMENT.top, block)
    top = format.emax if isinstance(format, MicroscalingFormat) else 0
    return BlockReference(format, ProfileFormat(format.profile, format.bits, largest=format.largest), top, block)


def blocks_by_category(reference: BlockReference, count: int, rng: np.random.Generator) -> dict[Category, Inputs]:
    """The inputs of every category but infinities, in blocks; somewhat more than `count` in each at most, for what
    makes the scale known."""
    single = inputs_by_category(FixedReference(reference.element, reference.top), count, rng)
    left_out = (Category.INFINITIES, Category.RANDOM)
    found = {category: reference.arranged(x) for category, x in single.items() if category not in left_out}
    return {**found, Category.RANDOM: reference.random(count, rng)}
