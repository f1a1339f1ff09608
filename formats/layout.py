"""numpy arrays and torch tensors of any shape and stride, as the (batch, rows, columns) float arrays that the kernel
reads."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from formats.scale import Granularity, Grouping, Scale, group

if TYPE_CHECKING:
    import torch


def is_tensor(x: Any) -> bool:
    """Whether x is a torch tensor; torch is not loaded to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, getattr(torch, "Tensor", ()))


def to_float(x: Any) -> NDArray[Any]:
    """x as a float32 or float64 array that shares memory where it can; every other floating type becomes float32,
    exactly."""
    if is_tensor(x):
        return _tensor_to_float(x)
    array = np.asarray(x)
    if array.dtype in (np.float32, np.float64) and array.dtype.isnative:
        return array
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        return array.astype(np.float64 if array.dtype.itemsize == 8 else np.float32)
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    raise TypeError(f"an array of {array.dtype} was given; float32, float64, float16 and bfloat16 can be rounded")


def _tensor_to_float(x: torch.Tensor) -> NDArray[Any]:
    import torch

    if x.device.type != "cpu":
        raise ValueError(f"a tensor on {x.device} was given; this works with tensors on cpu")
    if x.layout is not torch.strided:
        raise TypeError(f"a tensor of layout {x.layout} was given; strided tensors can be rounded")
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"a tensor of {x.dtype} was given; float32, float64, float16 and bfloat16 can be rounded")
    return x.detach().resolve_neg().numpy()


def clash(x: NDArray[Any], out: NDArray[Any] | None) -> bool:
    """Whether writing to `out` could change what is still to be read of x: they overlap, and are not the same
    elements."""
    if out is None or not np.may_share_memory(x, out):
        return False
    from formats.kernel.memory import address_of

    return (address_of(x), x.strides, x.dtype) != (address_of(out), out.strides, out.dtype)


def like(x: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """A copy of `values` in x's dtype and memory order, with x's strides unless an axis of size 1 has odd ones."""
    made = np.empty_like(x)
    with np.errstate(over="ignore"):
        made[...] = values
    return made


def dense_order(x: NDArray[Any]) -> list[int] | None:
    """The order of axes in which x lies in memory without gaps; None where it does not."""
    if x.flags.c_contiguous:
        return list(range(x.ndim))
    order = sorted(range(x.ndim), key=lambda axis: (-x.strides[axis], x.shape[axis] == 1))
    return order if x.transpose(order).flags.c_contiguous else None


def as_it_lies(x: NDArray[Any], scale: Scale) -> tuple[NDArray[Any], Scale, list[int]]:
    """x with its axes in the order of memory, the scale for that, and the order; as they were where elements of a
    two-dimensional tile share a scale or x does not lie without gaps."""
    group(scale, x.shape)  # raises for an axis that x has not
    order = dense_order(x)
    if order is None or (scale.per is Granularity.BLOCK and scale.axis is None):
        return x, scale, list(range(x.ndim))
    if scale.axis is not None and x.ndim:
        # What lies along an axis is the same in whatever order the axes are named.
        scale = replace(scale, axis=order.index(scale.axis % x.ndim))
    return x.transpose(order), scale, order


@dataclass(frozen=True)
class Tiled:
    """x and its result as (batch, rows, columns), columns side by side in memory.

    result: the array of x's shape whose memory `out` is. transposed: tiles down and tiles across changed places.
    logical: by how much an element's place in the logical order grows with batch, row and column (for a tensor scale:
    where x is C-contiguous).
    """

    x: NDArray[Any]
    out: NDArray[Any]
    result: NDArray[Any]
    grouping: Grouping
    tile: tuple[int, int]
    transposed: bool
    logical: tuple[int, int, int]

    @property
    def tiles(self) -> tuple[int, int, int]:
        """Tiles of the (batch, rows, columns) that the kernel sees."""
        _, rows, columns = self.x.shape
        return (self.x.shape[0], -(-rows // self.tile[0]), -(-columns // self.tile[1]))

    def tops(self, values: NDArray[Any]) -> NDArray[Any]:
        """Top exponents, or other numbers, of the group shape, one per tile of the kernel's view."""
        if self.grouping.groups == ():
            one, tiles = values.reshape(1, 1, 1), self.tiles
            # Spreading it out takes longer than to round a small array.
            return one if tiles == (1, 1, 1) else np.broadcast_to(one, tiles)
        per_tile = self.grouping.per_tile(values)
        return per_tile.swapaxes(1, 2) if self.transposed else per_tile

    def per_group(self, largest: NDArray[Any]) -> NDArray[Any]:
        """The largest of each group from the largest of each tile of the kernel's view."""
        if self.grouping.groups == ():
            return np.asarray(largest.max(initial=0))
        return self.grouping.per_group(largest.swapaxes(1, 2) if self.transposed else largest)

    def largest(self) -> NDArray[np.float64]:
        """The largest finite magnitude of each group, of the group shape; 0 where there is none."""
        from formats import kernel

        return self.per_group(kernel.largest_of_tiles(self.x, self.tile, self.tiles)).astype(np.float64)


def tile(
    x: NDArray[Any], scale: Scale, out: NDArray[Any] | None = None, dtype: Any = None, *, places: bool = False
) -> Tiled:
    """Lay out x for the kernel, and memory for its result of `dtype` (x's own by default): `out` where its layout is
    x's, else new.

    places: whether `logical` is asked for, which rules out the quickest layout of some.
    """
    dtype = x.dtype if dtype is None else dtype
    grouping = group(scale, x.shape)
    order = dense_order(x)
    if order is None:
        x = np.ascontiguousarray(x).reshape(x.shape)
        order = list(range(x.ndim))
    fits = out is not None and out.shape == x.shape and out.dtype == dtype
    if fits and out is not None and (out.strides != x.strides or out.dtype != x.dtype):
        fits = out.strides == tuple(stride // x.itemsize * out.itemsize for stride in x.strides)
    result = out if out is not None and fits else np.empty_like(x, dtype)
    if scale.per is Granularity.TENSOR:
        from formats.kernel import FLAT_TILE

        flat, flat_out = x.transpose(order).reshape(1, 1, -1), result.transpose(order).reshape(1, 1, -1)
        return Tiled(flat, flat_out, result, grouping, (1, FLAT_TILE), False, (0, 0, 1))
    try:
        image = x.reshape(grouping.shape, copy=False)
        image_out = result.reshape(grouping.shape, copy=False)
    except ValueError:
        # The three dimensions are not views of this memory order.
        image = np.ascontiguousarray(x).reshape(grouping.shape)
        result = np.empty(x.shape, dtype)
        image_out = result.reshape(grouping.shape)
    step = x.itemsize
    batch, rows, columns = grouping.shape
    tile_rows, tile_columns = grouping.tile
    transposed, logical = False, (rows * columns, columns, 1)
    if image.shape[2] > 1 and image.strides[2] != step:
        if image.strides[1] != step:
            image = np.ascontiguousarray(image)
            result = np.empty(x.shape, dtype)
            image_out = result.reshape(grouping.shape)
        else:
            image, image_out = image.swapaxes(1, 2), image_out.swapaxes(1, 2)
            rows, columns, tile_rows, tile_columns = columns, rows, tile_columns, tile_rows
            transposed, logical = True, (rows * columns, 1, rows)
    shape, of_tile = _in_one_run((batch, rows, columns), (tile_rows, tile_columns))
    if of_tile != (tile_rows, tile_columns) and image.strides[1] == columns * step and not places:
        image, image_out = (np.reshape(part, shape, copy=False) for part in (image, image_out))
        (tile_rows, tile_columns), transposed = of_tile, not transposed
    return Tiled(image, image_out, result, grouping, (tile_rows, tile_columns), transposed, logical)


def _in_one_run(shape: tuple[int, int, int], tile: tuple[int, int]) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """The (batch, rows, columns) and the tile in which each tile, whose rows lie one after the other, is one long run
    instead of many short ones; both as they are where it is not so."""
    (batch, rows, columns), (high, wide) = shape, tile
    if high > 1 and 0 < columns <= wide:
        return (batch, 1, rows * columns), (1, high * columns)
    return shape, tile


class Cut(NamedTuple):
    """An array without gaps as the kernel sees it: its (batch, rows, columns), rows and columns of a tile, and tiles of
    each."""

    shape: tuple[int, int, int]
    tile: tuple[int, int]
    tiles: tuple[int, int, int]


@lru_cache(maxsize=1024)
def cut_without_gaps(scale: Scale, shape: tuple[int, ...]) -> Cut | None:
    """How `tile` lays out a C-contiguous array of this shape, found once; None where tiles share a scale."""
    grouping = group(scale, shape)
    if grouping.shared and grouping.shape[0] > 1:
        return None
    (batch, rows, columns), (high, wide) = _in_one_run(grouping.shape, grouping.tile)
    return Cut((batch, rows, columns), (high, wide), (batch, -(-rows // high), -(-columns // wide)))


def largest_of_groups(x: NDArray[Any], scale: Scale) -> NDArray[np.float64]:
    """The largest finite magnitude of each group of a float32 or float64 array, of the group shape; 0 where there is
    none."""
    return tile(x, scale).largest()
