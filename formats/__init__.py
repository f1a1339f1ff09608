"""Number formats: what they are, how numbers round into them, and which 498 are ranked."""

from formats.catalogue import catalogue
from formats.codebook import CodebookFormat, from_codebook, posit
from formats.codes import Codes, unpack
from formats.custom import load_formats
from formats.format import Family, Format, ProfileFormat, from_profile
from formats.matmul import ExactAccumulator, Float32Accumulator, FormatAccumulator, matmul
from formats.names import get
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
