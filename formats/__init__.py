"""Number formats: what they are, how numbers round into them, and which 498 are ranked.

`STANDARDS`: the canonical names of the standard formats outside the 498 (docs/formats.md section 5), a tuple of str.

>>> import formats
>>> formats.STANDARDS[:3], len(formats.catalogue())
(('E4M3', 'E5M2', 'E4M3FNUZ'), 498)
"""

from formats.catalogue import catalogue
from formats.codebook import CodebookFormat, from_codebook, posit
from formats.codes import Codes, unpack
from formats.custom import load_formats
from formats.format import Family, Format, ProfileFormat, from_profile
from formats.matmul import ExactAccumulator, Float32Accumulator, FormatAccumulator, matmul
from formats.microscaling import MicroscalingFormat
from formats.names import get
from formats.nvfp4 import NVFP4Format, NVFP4Scales
from formats.real import IntegerFormat
from formats.rounding import Rounding
from formats.scale import Granularity, Scale, ScalePolicy
from formats.standards import STANDARDS, Overflow, StandardFormat, minifloat

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
