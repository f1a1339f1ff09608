"""What numbers beyond the largest value become, and which codes are NaN."""

from enum import StrEnum


class Overflow(StrEnum):
    """What becomes of a magnitude beyond the largest value.

    saturate: the largest value, of infinities too. standard: infinity where the format has one, else NaN where it has
    that, else saturate.

    Raises:
        ValueError: for another name, in `StandardFormat.with_overflow`.

    Source:
        docs/definitions/formats.md section 5; ml_dtypes.

    >>> import formats, numpy as np
    >>> x = np.float32([500, 470])
    >>> formats.get("E4M3").round(x).tolist(), formats.get("E4M3/standard").round(x).tolist()
    ([448.0, 448.0], [nan, nan])
    >>> formats.get("E5M2/standard").round(x * 999).tolist()
    [inf, inf]
    """

    SATURATE = "saturate"
    STANDARD = "standard"


class NanCodes(StrEnum):
    """Which codes stand for NaN.

    IEEE: all above infinity, of each sign. ONE: the highest, of each sign. MINUS_ZERO: the code that minus zero would
    have.
    """

    NONE = "none"
    IEEE = "IEEE"
    ONE = "one"
    MINUS_ZERO = "code of -0"
