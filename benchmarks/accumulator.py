"""What a 16-bit accumulator does to FP134 dot products of Gaussian data, beside what FP134 itself does.

    python benchmarks/accumulator.py > benchmarks/accumulator.txt

Every error is the root mean square over many dot products, relative to the root mean square of the exact ones. The
quantization error is that of the exact dot product of the codes against the dot product of the data in float64; the
others are the accumulator's alone, against the exact dot product of the same codes.
"""

from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

import formats
from formats.accumulate import Accumulator, ExactAccumulator, Float32Accumulator, FormatAccumulator, matmul

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
OPERAND, MASTER, TOP = "FP134", "FP169", 32
ACCUMULATORS: dict[str, Accumulator] = {
    f"{MASTER} chunk 1": FormatAccumulator(MASTER, TOP),
    f"{MASTER} chunk 64": FormatAccumulator(MASTER, TOP, chunk=64),
    "float32 chunk 1": Float32Accumulator(),
}


def relative_error(found: NDArray[np.floating], exact: NDArray[np.float64]) -> float:
    """Root mean square of the difference over that of the exact values."""
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


def errors(length: int, rows: int, seed: int) -> tuple[float, list[float]]:
    """The error of quantization, and that of each accumulator, for rows * rows dot products."""
    rng = np.random.default_rng([seed, length])
    x, y = rng.standard_normal((rows, length)), rng.standard_normal((length, rows))
    operand = formats.get(OPERAND)
    assert isinstance(operand, formats.ProfileFormat)
    qx, qy = operand.encode(x), operand.encode(y)
    exact = matmul(qx, qy, accumulator=ExactAccumulator("float64")).astype(np.float64)
    return relative_error(exact, x @ y), [
        relative_error(matmul(qx, qy, accumulator=a), exact) for a in ACCUMULATORS.values()
    ]


def main(
    rows: Annotated[int, typer.Option(min=1, help="rows and columns; their square is the number of dot products")] = 64,
    seed: Annotated[int, typer.Option(help="seed of the data")] = 0,
) -> None:
    """Print the relative RMS error of every accumulator at every length."""
    print(
        f"{rows * rows} dot products of {OPERAND} codes of Gaussian data for each length, seed {seed}; {MASTER} "
        f"at top {TOP}"
    )
    print("relative RMS error")
    print(f"{'length':>6} {OPERAND + ' itself':>16}" + "".join(f" {name:>16}" for name in ACCUMULATORS))
    for length in LENGTHS:
        quantization, others = errors(length, rows, seed)
        print(f"{length:6} {quantization:16.3e}" + "".join(f" {error:16.3e}" for error in others))


if __name__ == "__main__":
    typer.run(main)
