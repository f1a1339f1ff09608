"""Rounding with blocks and real scales: time an element, and over that of a copy, on one thread.

Run: OMP_NUM_THREADS=1 python -m benchmarks.blocks > benchmarks/blocks.txt

A matrix of 1,024 x 1,536 float32 as it lies and transposed, and images of 32 channels of 16 x 16 as they lie and
channels last. The best of 60 calls, with a new result each, since what else runs on the machine only adds.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

import formats
from formats import Scale

REPEATS = 60
MATRIX, IMAGES = (1024, 1536), (64, 32, 16, 16)
PLAIN = ("FP134", "MXFP8-E4M3", "MXFP4", "E4M3/real", "E4M3/real/row", "E4M3/real/block128", "E4M3/real/tile128x128")
NVFP4 = ("NVFP4", "NVFP4/tile16x16")
DRAWN = ("FP134", "MXFP4", "E4M3/real", "E4M3/real/block128", *NVFP4)


def best(run: Callable[[], object]) -> float:
    """Seconds, after a call that is not counted."""
    run()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


def print_row(name: str, elements: int, run: Callable[[], object], copy: float) -> None:
    """Nanoseconds an element, and the ratio."""
    each = 1e9 * best(run) / elements
    print(f"{name:44}{each:8.2f}{each / copy:8.1f}", flush=True)


def main() -> None:
    """Print a row a case."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    matrix, images = torch.randn(MATRIX), torch.randn(IMAGES)
    last = images.to(memory_format=torch.channels_last)
    copy = 1e9 * best(matrix.clone) / matrix.numel()
    print(f"{'':44}{'ns':>8}{'x copy':>8}\n{'copy':44}{copy:8.2f}{1:8.1f}")
    for name in (*PLAIN, *NVFP4):
        format = formats.get(name)
        print_row(name, matrix.numel(), lambda of=format: of.round(matrix), copy)
    for name in ("MXFP8-E4M3", "E4M3/real/block128", "NVFP4"):
        format = formats.get(name)
        print_row(f"{name}, transposed", matrix.numel(), lambda of=format: of.round(matrix.T), copy)
    channels = replace(formats.get("MXFP8-E4M3"), scale=Scale(per="block", block=32, axis=1), name="channels")
    for where, x in (("NCHW", images), ("channels last", last)):
        print_row(f"MXFP8-E4M3 along channels, {where}", x.numel(), lambda x=x: channels.round(x), copy)
        print_row(
            f"MXFP8-E4M3 along rows of 16, {where}", x.numel(), lambda x=x: formats.get("MXFP8-E4M3").round(x), copy
        )
    for name in DRAWN:
        format = formats.get(name)
        print_row(
            f"{name}, stochastic",
            matrix.numel(),
            lambda of=format: of.round(matrix, rounding="stochastic", seed=1),
            copy,
        )


if __name__ == "__main__":
    main()
