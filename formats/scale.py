"""Which elements share a top exponent, and how it is chosen."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numeric_formats.checks import one_of

MOST_HEADROOM = 255
LONGEST_BLOCK = (1 << 31) - 1
"""Blocks of so many are whole lines."""


class Granularity(StrEnum):
    """What shares one scale.

    Raises:
        ValueError: for another name, in `Scale`.

    Source:
        docs/definitions/formats.md section 2.

    >>> import formats
    >>> formats.get("FP134/channel").granularity is formats.Granularity.CHANNEL
    True
    """

    TENSOR = "tensor"
    CHANNEL = "channel"
    BLOCK = "block"


class ScalePolicy(StrEnum):
    """How the largest magnitude of a group decides its scale.

    floor is OCP's; all are described in `Scale`.

    Raises:
        ValueError: for another name, in `Scale`.

    Source:
        docs/definitions/formats.md section 2.

    >>> import formats, numpy as np
    >>> x = np.float32([1.99])
    >>> {policy.value: int(formats.get(f"FP134/{policy}").find_top(x)) for policy in list(formats.ScalePolicy)[1:]}
    {'ceil': 1, 'even': 1, 'rceil': 1}
    >>> int(formats.get("FP134").find_top(x))
    0
    """

    FLOOR = "floor"
    CEIL = "ceil"
    EVEN = "even"
    RCEIL = "rceil"


@dataclass(frozen=True)
class Scale:
    """The rule that picks the top exponent T from data: T = floor(log2(max |x|)) + headroom over each group.

    Args:
        per: tensor, channel (each index of `axis`) or block.
        block: a number B (runs of B along `axis`), or a pair (a two-dimensional tile: (N, C, H, W) is tiled over
            (C, H*W), other ranks over their last two axes, rank 1 in runs of the second number).
        axis: for channel and one-dimensional blocks; default the first for channels, the last for blocks.
        headroom: binades left free above the maximum, >= 0; None says none: 0, unless a scheme of training leaves some.
        policy: floor (T = floor(log2 max)), ceil (ceil(log2 max)), even (floor after rounding the maximum to the
            precision of the top binade, half to even), rceil (the smallest T whose largest value reaches the maximum).
        exponent_field: (smallest, largest) T that a stored scale can hold, or None.

    Raises:
        ValueError: for names, sizes and combinations that mean nothing.

    Source:
        docs/definitions/formats.md section 2.

    >>> import formats, numpy as np
    >>> rows_of_two = formats.get("FP134").with_scale(formats.Scale(per="block", block=2))
    >>> rows_of_two.name, rows_of_two.find_top(np.float32([[1, 2, 3, 4, 5]])).tolist()
    ('FP134/block2', [[1, 2, 2]])
    """

    per: Granularity = Granularity.TENSOR
    block: int | tuple[int, int] | None = None
    axis: int | None = None
    headroom: int | None = None
    policy: ScalePolicy = ScalePolicy.FLOOR
    exponent_field: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        per = one_of("scale per", Granularity, self.per)
        object.__setattr__(self, "per", per)
        object.__setattr__(self, "policy", one_of("scale policy", ScalePolicy, self.policy))
        if self.headroom is not None and (
            not isinstance(self.headroom, int) or not 0 <= self.headroom <= MOST_HEADROOM
        ):
            raise ValueError(
                f"headroom {self.headroom!r}: a whole number of binades from 0 to {MOST_HEADROOM} is needed"
            )
        if (self.block is None) != (per is not Granularity.BLOCK):
            raise ValueError(
                f"block {self.block!r} with scale per {per}: a block size goes with per block, and only with it"
            )
        sizes = self.block if isinstance(self.block, tuple) else (self.block,)
        if self.block is not None and (
            len(sizes) != 1 + isinstance(self.block, tuple)
            or not all(isinstance(size, int) and 1 <= size <= LONGEST_BLOCK for size in sizes)
        ):
            raise ValueError(f"block {self.block!r}: a positive number or a pair of them is needed")
        if self.axis is not None and (per is Granularity.TENSOR or isinstance(self.block, tuple)):
            raise ValueError(f"axis {self.axis}: only channels and one-dimensional blocks lie along an axis")
        if per is Granularity.CHANNEL and self.axis is None:
            object.__setattr__(self, "axis", 0)
        if per is Granularity.BLOCK and isinstance(self.block, int) and self.axis is None:
            object.__setattr__(self, "axis", -1)

    @property
    def room(self) -> int:
        """Binades that are left free where no scheme leaves some."""
        return self.headroom or 0

    @property
    def content(self) -> dict[str, Any]:
        """What digests are made of. A headroom of 0 that is said is not the same as none: no scheme changes it."""
        said = {"none_free": True} if self.headroom == 0 else {}
        return asdict(self) | {"headroom": self.room} | said


@dataclass(frozen=True)
class Grouping:
    """An array's elements as (batch, rows, columns), cut into tiles that have one scale each.

    shape: the three-dimensional shape; tile: rows and columns of a tile; groups: the shape in which the user sees one
    scale per group; shared: tiles of all batches share a scale (channels).
    """

    shape: tuple[int, int, int]
    tile: tuple[int, int]
    groups: tuple[int, ...]
    shared: bool = False

    @property
    def tiles(self) -> tuple[int, int, int]:
        """How many tiles there are in each of the three dimensions."""
        return (self.shape[0], -(-self.shape[1] // self.tile[0]), -(-self.shape[2] // self.tile[1]))

    def per_tile(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the group shape as one per tile, a view of shape `tiles`."""
        if self.shared:
            return np.broadcast_to(values.reshape(1, -1, 1), self.tiles)
        return values.reshape(self.tiles)

    def per_element(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Values of the group shape as one per element of an array of this shape; of one group, the value, which
        broadcasts."""
        if self.groups == ():
            return values
        rows = self.per_tile(values).repeat(self.tile[0], axis=1)[:, : self.shape[1]]
        return rows.repeat(self.tile[1], axis=2)[:, :, : self.shape[2]].reshape(shape)

    def per_group(self, largest: NDArray[Any]) -> NDArray[Any]:
        """The largest of each group from the largest of each tile."""
        if not largest.size:
            return np.zeros(self.groups, largest.dtype)
        return (largest.max(axis=0) if self.shared else largest).reshape(self.groups)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of an array of {rank} dimensions: {-rank} to {rank - 1} are allowed")
    return axis % rank


@lru_cache(maxsize=1024)
def group(scale: Scale, shape: tuple[int, ...]) -> Grouping:
    """How an array of this shape is cut by this scale; ValueError where it has no such axis."""
    size = math.prod(shape)
    if scale.per is Granularity.TENSOR:
        return Grouping((1, 1, size), (1, max(size, 1)), ())
    if not shape:
        shape = (1,)
    rank = len(shape)
    if isinstance(scale.block, tuple):
        rows, columns = scale.block
        if rank == 1:
            return _runs(shape, 0, columns)
        if rank == 4:
            image = (shape[0], shape[1], shape[2] * shape[3])
            lead: tuple[int, ...] = shape[:1]
        else:
            image = (math.prod(shape[:-2]), shape[-2], shape[-1])
            lead = shape[:-2]
        return Grouping(image, (rows, columns), (*lead, -(-image[1] // rows), -(-image[2] // columns)))
    assert scale.axis is not None  # set by Scale for channels and one-dimensional blocks
    axis = _axis(scale.axis, rank)
    if scale.per is Granularity.CHANNEL:
        inner = math.prod(shape[axis + 1 :])
        return Grouping((math.prod(shape[:axis]), shape[axis], inner), (1, max(inner, 1)), (shape[axis],), shared=True)
    assert scale.block is not None
    return _runs(shape, axis, scale.block)


def _runs(shape: tuple[int, ...], axis: int, length: int) -> Grouping:
    """Runs of `length` elements along an axis; the last of a line may be short."""
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    length = min(length, max(shape[axis], 1))
    groups = (*shape[:axis], -(-shape[axis] // length), *shape[axis + 1 :])
    if inner == 1:
        return Grouping((1, outer, shape[axis]), (1, length), groups)
    return Grouping((outer, shape[axis], inner), (length, 1), groups)


class TopRule(NamedTuple):
    """How a group's largest magnitude decides its T, as the loops take it: floor(log2 largest) + headroom, or one more,
    within a range.

    above: by how many 2^-52 of its power of two the largest magnitude may exceed it before T is one more.
    """

    above: int
    headroom: int
    low: int
    high: int

    def top(self, largest: float) -> int:
        """T of one group, given its largest finite magnitude; that of 0 is 0."""
        # frexp is exact, subnormal numbers included: largest = fraction * 2^exponent, 1/2 <= fraction < 1.
        fraction, exponent = math.frexp(largest)
        more = math.ldexp(fraction, 53) - (1 << 52) > self.above
        return min(max(exponent - 1 + more + self.headroom if largest else 0, self.low), self.high)

    def tops(self, largest: NDArray[np.float64]) -> NDArray[np.int64]:
        """The same of many."""
        fraction, exponent = np.frexp(largest)
        more = np.ldexp(fraction, 53) - (1 << 52) > self.above
        tops = np.where(largest > 0, exponent.astype(np.int64) - 1 + more + self.headroom, 0)
        return np.asarray(np.clip(tops, self.low, self.high))


def top_rule(scale: Scale, first: int, most: int, allowed: tuple[int, int]) -> TopRule:
    """The rule of a scale for a top binade of `first` significant bits whose largest value is `most` steps."""
    above = {
        ScalePolicy.FLOOR: 1 << 52,
        ScalePolicy.CEIL: 0,
        # From half a step below the next power of two: the tie goes there, since that is even.
        ScalePolicy.EVEN: (1 << 52) - (1 << (52 - first)) - 1,
        ScalePolicy.RCEIL: (most << (53 - first)) - (1 << 52),
    }[scale.policy]
    return TopRule(above, scale.room, *allowed)


def check_top(top: ArrayLike, groups: tuple[int, ...], allowed: tuple[int, int], name: str) -> NDArray[np.int64]:
    """Given top exponents as a new array of the group shape; TypeError or ValueError where they are not whole, do not
    fit or are out of range."""
    low, high = allowed
    if type(top) is int and groups == () and low <= top <= high:
        # What follows takes longer than to round a small array.
        return np.array(top, np.int64)
    given = np.asarray(top)
    if given.dtype.kind not in "iu":
        raise TypeError(f"top is {top!r}; a whole number, an array of them or None is needed")
    if given.shape not in ((), groups):
        raise ValueError(f"top has shape {given.shape}; for this array in {name} it is a number or has shape {groups}")
    if given.size and not low <= given.min() <= given.max() <= high:
        wrong = given.min() if given.min() < low else given.max()
        raise ValueError(f"top {int(wrong)} is outside {low} to {high}, where all values of {name} are float32 numbers")
    return np.array(np.broadcast_to(given.astype(np.int64), groups))
