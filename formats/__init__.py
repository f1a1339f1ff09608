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
from formats.kinds.codebook_format import CodebookFormat, from_codebook, posit
from formats.kinds.integer_real import IntegerFormat
from formats.kinds.microscaling import MicroscalingFormat
from formats.kinds.nvfp4 import NVFP4Format, NVFP4Scales
from formats.kinds.profile_format import Family, ProfileFormat, from_profile
from formats.kinds.standard_format import STANDARDS, Overflow, StandardFormat, minifloat
from formats.names import get
from formats.number_format import Codes, Format, unpack
from formats.rounding import Rounding
from formats.scale import Granularity, Scale, ScalePolicy

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
    "Rounding",
    "Scale",
    "ScalePolicy",
    "StandardFormat",
    "catalogue",
    "from_codebook",
    "from_profile",
    "get",
    "load_formats",
    "matmul",
    "minifloat",
    "posit",
    "unpack",
]
