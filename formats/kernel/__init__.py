"""The loops that round: float32 and float64 of any bits, one loop for every profile.

The rule that they follow is `formats.rounding.rounded`, for one number in plain Python; `addition` says how the fast
ones work. The functions here take numpy arrays and run compiled tasks on several threads; nothing is compiled before it
is first called. `words` and `threads` are for compiled tasks elsewhere too: name the words, make a task of a function
of them, pack, run.
"""

from formats.kernel.blocks import round_blocks
from formats.kernel.codebook import look_up, look_up_in_mode
from formats.kernel.codes import decode_tiles, encode_flat, encode_tiles
from formats.kernel.elements import round_elements
from formats.kernel.flat import FOUND_AT_ONCE, round_flat
from formats.kernel.grid import describe
from formats.kernel.hadamard import transform_lines
from formats.kernel.largest import largest_flat, largest_of_tiles
from formats.kernel.modes import round_flat_in_mode, round_tiles_in_mode
from formats.kernel.neighbours import round_between
from formats.kernel.scaled import round_scaled
from formats.kernel.sums import BUCKETS, sketch_of_difference, sketch_places, sums_of_difference
from formats.kernel.survey import Survey, round_and_survey, survey_rounded
from formats.kernel.tiles import round_tiles
from formats.kernel.tiling import FLAT_TILE

__all__ = [
    "BUCKETS",
    "FLAT_TILE",
    "FOUND_AT_ONCE",
    "Survey",
    "decode_tiles",
    "describe",
    "encode_flat",
    "encode_tiles",
    "largest_flat",
    "largest_of_tiles",
    "look_up",
    "look_up_in_mode",
    "round_and_survey",
    "round_between",
    "round_blocks",
    "round_elements",
    "round_flat",
    "round_flat_in_mode",
    "round_scaled",
    "round_tiles",
    "round_tiles_in_mode",
    "sketch_of_difference",
    "sketch_places",
    "sums_of_difference",
    "survey_rounded",
    "transform_lines",
]
