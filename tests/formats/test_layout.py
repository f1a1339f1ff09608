"""How arrays are laid out for the kernel."""

import numpy as np
import pytest

from formats import Scale
from formats.layout import cut_without_gaps, tile

SCALES = (
    *(Scale(per="channel", axis=axis) for axis in (0, 1, -1)),
    *(Scale(per="block", block=block, axis=axis) for block in (2, 3, 32) for axis in (0, 1, -1)),
    *(Scale(per="block", block=block) for block in ((2, 2), (48, 48), (3, 5))),
)


@pytest.mark.parametrize("shape", [(6, 7), (4, 6), (1, 1), (3, 4, 5), (2, 3, 4, 3), (2, 50, 7, 7)])
@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_what_has_no_gaps_is_cut_as_it_is_laid_out(scale, shape):
    cut, tiled = cut_without_gaps(scale, shape), tile(np.empty(shape, np.float32), scale)
    if cut is None:
        # Tiles of several batches share a scale.
        assert tiled.grouping.shared
        assert tiled.grouping.shape[0] > 1
    else:
        assert (cut.tile, cut.tiles) == (tiled.tile, tiled.tiles)
        assert cut.shape == tiled.x.shape
