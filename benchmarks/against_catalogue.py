"""Synthesized formats against the catalogue's best with one scale a tensor, paired over 8 mini-batches.

    python benchmarks/against_catalogue.py resnet20 --effect AE --catalogue T8.6x1@2 \\
        --formats profile:8:5x2,6,5x2,4x2,3x2,2x2,1x3

What `formats search` found and printed; it compares with FP134, this with the best of the catalogue. Measurements come
from the store where they are there.
"""

from typing import Annotated

import numpy as np
import typer

from commands.options import split
from formats.pairs import candidate
from predictor.effects import check_effects
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import check_minibatches
from predictor.statistics import interval
from workloads import load


def main(
    model: Annotated[str, typer.Argument(help="a bundled network")],
    catalogue: Annotated[str, typer.Option(help="the catalogue's best for the effect")],
    formats: Annotated[str, typer.Option(help="comma-separated names of what was synthesized")],
    effect: Annotated[str, typer.Option(help="E, A or AE")] = "AE",
    minibatches: Annotated[int, typer.Option(help="how many")] = 8,
) -> None:
    """Print differences in degrees with 95% t-intervals."""
    workload = load(model)
    names = [catalogue, *split(formats)]
    chosen = [candidate(name) for name in names]
    batches = check_minibatches(workload, minibatches, None)
    angles = np.empty((len(chosen), minibatches))
    with Store.open() as store:
        for found in Measuring(workload, store=store).measured(chosen, batches, check_effects([effect])):
            angles[found.format, found.minibatch] = found.angle()
    for name, row in zip(names[1:], angles[1:], strict=True):
        mean, low, _ = interval(row - angles[0])
        print(
            f"{model}, {effect}: {name} less {catalogue}: {mean:+.3f} ± {mean - low:.3f} of {angles[0].mean():.3f}",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
