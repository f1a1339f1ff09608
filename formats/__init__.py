"""Number formats: what they are, how numbers round into them, and which 498 are ranked."""

from formats.catalogue import catalogue
from formats.codes import Codes
from formats.format import Family, Format, ProfileFormat, from_profile
from formats.names import get
from formats.rounding import Rounding
from formats.scale import Granularity, Scale, ScalePolicy

__all__ = [
    "Codes",
    "Family",
    "Format",
    "Granularity",
    "ProfileFormat",
    "Rounding",
    "Scale",
    "ScalePolicy",
    "catalogue",
    "from_profile",
    "get",
]
