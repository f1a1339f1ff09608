"""A format's magnitudes, as the tests of its hardware need them."""

import numpy as np

import formats


def whole_magnitudes(format):
    """In the format's smallest step, as whole numbers."""
    magnitudes = format.magnitudes() if isinstance(format, formats.ProfileFormat) else format.magnitudes(0)
    return np.ldexp(magnitudes, max(d + p - 1 for d, p in enumerate(format.profile))).astype(object)
