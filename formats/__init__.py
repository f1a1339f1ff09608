"""Number formats: what they are, how numbers round into them, and which 498 are ranked.

`STANDARDS`: the canonical names of the standard formats outside the 498 (docs/definitions/formats.md section 5), a
tuple of str.

>>> import formats
>>> formats.STANDARDS[:3], len(formats.catalogue())
(('E4M3', 'E5M2', 'E4M3FNUZ'), 498)
"""

import numeric_formats  # noqa: F401  (first: it refuses systems that none of this runs on)
from formats.accumulate import ExactAccumulator, Float32Accumulator, FormatAccumulator, matmul
from formats.families import catalogue
from formats.from_file import load_formats
from formats.kinds.codebook_format import CodebookFormat
from formats.kinds.codebooks import from_codebook, posit
from formats.kinds.integer_real import IntegerFormat
from formats.kinds.microscaling import MicroscalingFormat
from formats.kinds.nvfp4 import NVFP4Format, NVFP4Scales
from formats.kinds.profile_format import ProfileFormat, from_profile
from formats.kinds.scaled_standards import RealStandardFormat, ScaledStandardFormat
from formats.kinds.standard_format import StandardFormat
from formats.kinds.standards import minifloat
from formats.lookup import get
from formats.names import STANDARDS
from formats.number_format import Codes, Format
from formats.packing import unpack
from formats.recipes.reading import recipe
from formats.recipes.value import Recipe
from formats.rounding import Rounding
from formats.scale import Granularity, Scale, ScalePolicy
from formats.specials import Overflow
from formats.spelling import Family

__all__ = [
    "STANDARDS",
    "CodebookFormat",
    "Codes",
    "ExactAccumulator",
    "Family",
    "Float32Accumulator",
    "Format",
    "FormatAccumulator",
    "Granularity",
    "IntegerFormat",
    "MicroscalingFormat",
    "NVFP4Format",
    "NVFP4Scales",
    "Overflow",
    "ProfileFormat",
    "RealStandardFormat",
    "Recipe",
    "Rounding",
    "Scale",
    "ScalePolicy",
    "ScaledStandardFormat",
    "StandardFormat",
    "catalogue",
    "from_codebook",
    "from_profile",
    "get",
    "load_formats",
    "matmul",
    "minifloat",
    "posit",
    "recipe",
    "unpack",
]
