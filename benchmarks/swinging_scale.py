"""How much of what flips is by a change of scale, of runs that hysteresis_from_scratch.py made; and why a tracked scale
without headroom never rests under hysteresis: INT4's scale and rounded value of one weight, step by step.

    python benchmarks/swinging_scale.py runs/few_images
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from hysteresis_from_scratch import LATE

import formats
from training.delayed import Delayed

WEIGHT, STEPS = 1.8, 8


def swing(rounding: str) -> list[tuple[int, float]]:
    """T and rounded value of a weight that does not move, in each step."""
    int4, w = formats.get("INT4"), np.float32([WEIGHT])
    low, high = int4.top_range
    tracked, before, seen = Delayed(0), int4.round(w, top=0), []
    for _ in range(STEPS):
        given = {"previous": before} if rounding == "hysteresis" else {}
        before = int4.round(w, top=tracked.top, rounding=rounding, **given)
        seen.append((tracked.top, float(before[0])))
        tracked.see(float(abs(before[0])), int(abs(w[0]) > int4.max(tracked.top)))
        tracked.advance(0, low, high)
    return seen


def main(folder: Annotated[Path, typer.Argument(help="of the runs", exists=True)]) -> None:
    """Print."""
    print(f"{'run':48} flips in a step, by scale of these;  in the last tenth")
    for path in sorted(folder.glob("*-authors-*/steps.parquet")):
        steps = pd.read_parquet(path)
        if len(steps) < 10:
            continue
        parts = []
        for rows in (steps, steps.iloc[-len(steps) // LATE :]):
            flips = rows.flips.sum()
            parts.append(f"{rows.flip_rate.mean():8.3%} {rows.flips_by_scale.sum() / max(1, flips):7.1%}")
        print(f"{path.parent.name:48} {parts[0]}   {parts[1]}")
    for rounding in ("nearest", "hysteresis"):
        told = ", ".join(f"T {top}: {value:g}" for top, value in swing(rounding))
        print(f"a weight of {WEIGHT} in INT4 with a tracked scale, {rounding}: {told}")


if __name__ == "__main__":
    typer.run(main)
