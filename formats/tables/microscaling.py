"""The formats of OCP's Microscaling Formats (MX) Specification, version 1.0 (sections 5 and 6)."""

BLOCK = 32
"""Neighbours along the last axis that share a scale."""
LOWEST_SCALE, HIGHEST_SCALE = -127, 127
"""Exponents of the E8M0 scale X = 2^(T - emax(element))."""
SCALE_BIAS = 127
"""What is added to them to make the scale's code."""
NAN_SCALE = 0xFF
"""The E8M0 code that makes every element of its block NaN, whatever its bits."""


ELEMENTS = {
    "MXFP8-E4M3": "E4M3",
    "MXFP8-E5M2": "E5M2",
    "MXFP6-E3M2": "E3M2",
    "MXFP6-E2M3": "E2M3",
    "MXFP4": "E2M1",
    "MXINT8": "INT8",
}
"""The elements of each: a standard (formats/tables/standards.py), or two's complement integers times 2^-6."""
