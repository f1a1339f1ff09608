"""Custom formats, five ways.

formats rank --model resnet18 --formats examples/custom_formats.py,FP134
"""

import formats

by_profile = formats.from_profile([5, 5, 6, 5, 5, 4, 4, 3, 3, 3, 2, 1], bits=8, name="best for errors?")
by_bits = formats.get("FP125")
by_scale = formats.get("FP133").with_scale(formats.Scale(per="block", block=32))
by_codebook = formats.from_codebook([0, 0.25, 0.5, 1.0, 2.0, 4.0], signed=True, name="quarters")


class Halved:
    """Any object with name, digest and round is a format."""

    name, digest = "FP134 of x/2, doubled", "halved-1"

    def round(self, x):
        return 2 * formats.get("FP134").round(x / 2)


by_object = Halved()
