"""The magnitudes of a profile at all scales, and the compiled loops that round to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from formats.layout import Tiled, as_it_lies, cut_without_gaps, dense_order, largest_of_groups, like, tile
from formats.profile import Profile, magnitude_count
from formats.rounding import ModeChoice, Rounding
from formats.scale import Granularity, Scale, TopRule, check_top, group, top_rule

if TYPE_CHECKING:
    from formats.kernel import Survey


@cache
def _kernel() -> ModuleType:
    """`formats.kernel`, which takes long to load; kept, since small calls feel an import."""
    from formats import kernel

    return kernel


@dataclass(frozen=True)
class Grid:
    """What arrays are rounded to: the magnitudes of a profile, up to a largest, at the scale of each group.

    `formats.kernel` rounds; the rule that it follows is `formats.rounding.rounded`. Magnitudes beyond the largest
    saturate, signs stay (also that of what rounds to zero), and so does NaN.

    largest: the largest magnitude as a multiple of the top binade's step. scale: what shares a top exponent. allowed:
    smallest and largest of these. name: of the format, for errors.
    """

    profile: Profile
    largest: int
    scale: Scale
    allowed: tuple[int, int]
    name: str

    @property
    def dropped(self) -> int:
        """Magnitudes of the profile above the largest."""
        return (1 << self.profile[0]) - 1 - self.largest

    @property
    def count(self) -> int:
        """How many magnitudes there are, zero included."""
        return magnitude_count(self.profile) - self.dropped

    @cached_property
    def magnitudes(self) -> NDArray[np.float64]:
        """All magnitudes at T = 0, ascending, zero first, exact."""
        parts = [np.zeros(1)]
        for d in reversed(range(len(self.profile))):
            p = self.profile[d]
            parts.append(np.ldexp(np.arange(1 << (p - 1), 1 << p, dtype=np.float64), 1 - p - d))
        return np.concatenate(parts)[: self.count]

    @cached_property
    def words(self) -> NDArray[np.int64]:
        """The grid as the loops read it."""
        return _kernel().describe(self.profile, self.largest)

    @cached_property
    def rule(self) -> TopRule:
        """How a group's largest magnitude decides its top exponent."""
        return top_rule(self.scale, self.profile[0], self.largest, self.allowed)

    def find_top(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """The top exponent of each group, of the group shape."""
        return self.rule.tops(largest_of_groups(x, self.scale))

    def check_top(self, top: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """The given top exponents for an array of this shape, of the group shape."""
        groups = () if self.scale.per is Granularity.TENSOR else group(self.scale, shape).groups
        return check_top(top, groups, self.allowed, self.name)

    def _tops(self, tiled: Tiled, top: Any) -> NDArray[Any]:
        """The top exponent of each tile, found or as given."""
        if top is None:
            return tiled.tops(self.rule.tops(tiled.largest()))
        return tiled.tops(check_top(top, tiled.grouping.groups, self.allowed, self.name))

    def round(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        """The rounded array: `out` itself, or one that shares no memory with x. out: where x may be written over."""
        if x.flags.c_contiguous and (out is None or out.flags.c_contiguous):
            made = np.empty(x.shape, x.dtype) if out is None else out
            if self.scale.per is Granularity.TENSOR:
                return self._round_flat(x, top, mode, made, keep_infinities)
            if mode.rounding is Rounding.NEAREST and top is None and self._round_without_gaps(x, made, keep_infinities):
                return made
        if mode.rounding is Rounding.NEAREST and top is None and self.scale.per is Granularity.BLOCK:
            return self._round_blocks(x, out, keep_infinities)
        if mode.rounding is Rounding.NEAREST:
            return self._round_tiles(x, top, out, keep_infinities)
        return self._round_tiles_in_mode(x, top, mode, out, keep_infinities)

    def _round_flat(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any], keep_infinities: bool
    ) -> NDArray[Any]:
        """The common cases, one scale for an array without gaps, without what the others need."""
        nearest, one = mode.rounding is Rounding.NEAREST, top
        if top is None:
            found_at_once = nearest and x.size <= _kernel().FOUND_AT_ONCE
            one = self.rule if found_at_once else self.rule.top(_kernel().largest_flat(x))
        elif type(top) is not int or not self.allowed[0] <= top <= self.allowed[1]:
            one = int(self.check_top(top, x.shape))
        if nearest:
            _kernel().round_flat(x, out, one, self.words, keep_infinities)
        else:
            # A copy of previous values, since `out` may be they.
            if mode.previous is not None:
                mode = replace(mode, previous=like(x, mode.previous))
            _kernel().round_flat_in_mode(x, out, one, self.words, keep_infinities, mode)
        return out

    def _round_without_gaps(self, x: NDArray[Any], out: NDArray[Any], keep_infinities: bool) -> bool:
        """Blocks, and channels of small arrays, to nearest, with scales that are found on the way; whether that was
        done."""
        if self.scale.per is not Granularity.BLOCK and x.size > _kernel().FOUND_AT_ONCE:
            return False
        cut = cut_without_gaps(self.scale, x.shape)
        if cut is None:
            return False
        shape, tile, tiles = cut
        _kernel().round_blocks(
            x.reshape(shape), out.reshape(shape), tile, tiles, self.words, keep_infinities, self.rule
        )
        return True

    def _round_tiles(self, x: NDArray[Any], top: Any, out: NDArray[Any] | None, keep_infinities: bool) -> NDArray[Any]:
        """To nearest, whatever shares a scale and however x lies in memory."""
        shape = x.shape
        repeated = self.scale.per is Granularity.TENSOR and 0 in x.strides and x.size > 1
        if repeated:
            # One of each repeated element is enough; the result is spread out again below.
            x = x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.strides)]
        tiled = tile(x, self.scale, None if repeated else out)
        _kernel().round_tiles(tiled.x, tiled.out, tiled.tile, self._tops(tiled, top), self.words, keep_infinities)
        if not repeated:
            return tiled.result
        spread = np.broadcast_to(tiled.result, shape)
        return spread.copy() if out is None else spread

    def _round_blocks(self, x: NDArray[Any], out: NDArray[Any] | None, keep_infinities: bool) -> NDArray[Any]:
        """To nearest, with scales of blocks that are found on the way."""
        x, scale, order = as_it_lies(x, self.scale)
        tiled = tile(x, scale, None if out is None else out.transpose(order))
        _kernel().round_blocks(tiled.x, tiled.out, tiled.tile, tiled.tiles, self.words, keep_infinities, self.rule)
        return tiled.result.transpose(np.argsort(order))

    def _round_tiles_in_mode(
        self, x: NDArray[Any], top: Any, mode: ModeChoice, out: NDArray[Any] | None, keep_infinities: bool
    ) -> NDArray[Any]:
        """The same in any mode."""
        stochastic = mode.rounding is Rounding.STOCHASTIC
        logical = stochastic and self.scale.per is Granularity.TENSOR
        if not x.flags.c_contiguous and (logical or dense_order(x) is None):
            # Random numbers follow the logical order, so it has to be that of the memory; previous values have to lie
            # as x does.
            x = np.ascontiguousarray(x).reshape(x.shape)
        if mode.previous is not None and like(x, mode.previous).strides != x.strides:
            x = np.array(x, order="C")
        tiled = tile(x, self.scale, out, places=stochastic)
        tops = self._tops(tiled, top)
        # A copy of previous values, since `out` may be they; laid out as the kernel sees x.
        if mode.previous is not None:
            mode = replace(mode, previous=tile(like(x, mode.previous), self.scale).x)
        _kernel().round_tiles_in_mode(
            tiled.x, tiled.out, tiled.tile, tops, self.words, keep_infinities, mode, tiled.logical
        )
        return tiled.result

    def round_surveyed(self, x: NDArray[Any], top: int, keep_infinities: bool) -> tuple[NDArray[Any], Survey]:
        """To nearest, of an array without gaps with one scale, and in the same pass what it did."""
        out, one = np.empty(x.shape, x.dtype), int(check_top(top, (), self.allowed, self.name))
        # Half of the smallest value is a tie, which goes to zero.
        limit, vanishing = np.ldexp(self.largest, one + 1 - self.profile[0]), np.ldexp(1.0, one - len(self.profile))
        return out, _kernel().round_and_survey(x, out, one, self.words, keep_infinities, float(limit), float(vanishing))
