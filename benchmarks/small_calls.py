"""What a call costs on a small array: microseconds to round 32 x 32 float32 numbers, where the scale is known and where
it is found, for every kind of format, beside numpy's own copy.

    python benchmarks/small_calls.py

One thread, the best of 9 times 2,000 calls. The aims are 5 microseconds with T known and 12 for all others.
"""

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

import formats

KNOWN, FOUND = 5.0, 12.0
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "profile, T known": ("FP134", {"top": 1}),
    "codebook, T known": ("NF4", {"top": 1}),
    "profile": ("FP134", {}),
    "integer": ("INT8", {}),
    "codebook": ("NF4", {}),
    "standard": ("E4M3", {}),
    "standard, scaled": ("E4M3/tensor", {}),
    "channels": ("FP134/channel", {}),
    "block minifloat": ("BM25", {}),
    "MX": ("MXFP8-E4M3", {}),
    "real scale": ("E4M3/real", {}),
    "NVFP4": ("NVFP4", {}),
    "profile, stochastic": ("FP134", {"rounding": "stochastic", "seed": 1}),
}
CALLS, TIMES = 2000, 9


def microseconds(function: Callable[[], Any]) -> float:
    """Of a call."""
    function()
    return min(timeit.repeat(function, number=CALLS, repeat=TIMES)) / CALLS * 1e6


def main() -> None:
    """Print."""
    x = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    out = np.empty_like(x)
    print(f"{'':22} {'':12} microseconds")
    print(f"{'numpy copyto':22} {'':12} {microseconds(lambda: np.copyto(out, x)):12.1f}")
    for what, (name, given) in ROWS.items():
        format = formats.get(name)
        took = microseconds(lambda format=format, given=given: format.round(x, **given))
        aim = KNOWN if "top" in given else FOUND
        print(f"{what:22} {name:12} {took:12.1f}" + ("" if took <= aim else f"  above the {aim:g} aimed for"))


if __name__ == "__main__":
    main()
