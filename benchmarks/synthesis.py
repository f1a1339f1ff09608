"""Synthesis on a bundled network: how long it takes, and that nothing that is tried beats the optimum.

    python benchmarks/synthesis.py resnet20

One noise pass over one mini-batch; how much each tensor counts is fitted to the exact angles of 20 known formats there.
Scores are relative to FP134's.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import formats
from predictor.effects import DEFAULT_EFFECTS
from predictor.gradient.noise import has_table, observe
from predictor.measuring.session import Measuring
from predictor.scheme import CURRENT
from search.knapsack import Constraints, ProfileShape, ScoreTable, synthesize
from search.sensitivity import row_weights
from workloads import load

CONSTRAINTS = {
    "none": Constraints(),
    "headroom 0": Constraints(headrooms=(0,)),
    "10 binades": Constraints(binades=10),
    "unimodal": Constraints(shape=ProfileShape.UNIMODAL),
    "non-increasing": Constraints(shape=ProfileShape.NON_INCREASING),
    "2 precisions": Constraints(precisions=2),
    "3 precisions": Constraints(precisions=3),
    "2 runs": Constraints(runs=2),
    "3 runs": Constraints(runs=3),
    "4 runs": Constraints(runs=4),
    "12 binades, unimodal, 3 precisions, 4 runs": Constraints(12, ProfileShape.UNIMODAL, 3, 4),
}


def random_profiles(count: int, bits: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Valid profiles, (count, 25), padded with zeros: precisions at random, each profile cut where its codes run
    out."""
    profiles = rng.integers(1, bits, (count, 25), np.int8)
    # A quarter of wild ones, and a quarter each of those that keep to 1-5, 2-5 and 3-5 bits, among which the good ones
    # are.
    for start, low in enumerate((1, 2, 3), start=1):
        profiles[start::4] = rng.integers(low, 6, profiles[start::4].shape, np.int8)
    spent = np.cumsum(np.left_shift(1, profiles.astype(np.int32) - 1), axis=1)
    profiles[spent > (1 << (bits - 1)) - 1] = 0
    return profiles


def timed(run: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
    """The least time of several runs in seconds, and the result."""
    least = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        result = run()
        least = min(least, time.perf_counter() - began)
    return least, result


def main(
    model: Annotated[str, typer.Argument(help="a bundled network")],
    seed: Annotated[int, typer.Option(help="decides the random profiles")] = 0,
) -> None:
    """Print scores and times."""
    workload = load(model)
    batch = workload.minibatches()[0]
    known = list(formats.catalogue(8))
    measuring = Measuring(workload, scheme=CURRENT)
    with measuring.gradients(batch) as gradients:
        noise = observe(gradients, known)
    fitted = row_weights(measuring, [noise], [batch], known, DEFAULT_EFFECTS)
    million = random_profiles(1_000_000, 8, np.random.default_rng(seed))
    fixed = [f for f in formats.catalogue(8) if has_table(f)]
    optimal = True
    for effect, weights in fitted.items():
        seconds, table = timed(partial(ScoreTable.of, [noise.tables], [weights]))
        reference = float(noise.tables.nsr(formats.get("FP134")) @ weights)  # type: ignore[arg-type]
        print(
            f"{model}, effect {effect}: {int((weights > 0).sum())} tensors, one table of them in {seconds * 1e3:.2f} ms"
        )
        seconds, scores = timed(partial(table.score, million), 3)
        best = synthesize(table)[0]
        catalogue = {f.name: float(noise.tables.nsr(f) @ weights) / reference for f in fixed}
        name = min(catalogue, key=catalogue.__getitem__)
        print(f"  a million profiles scored in {seconds:.2f} s; the best of them {scores.min() / reference:.4f}")
        print(f"  the best of the catalogue's {len(fixed)} tensor-scaled 8-bit profiles: {catalogue[name]:.4f} {name}")
        optimal &= bool(best.score <= scores.min() and best.score / reference <= catalogue[name] * (1 + 1e-12))
        for what, constraints in CONSTRAINTS.items():
            seconds, found = timed(partial(synthesize, table, 8, constraints))
            print(f"  {what:43} {found[0].score / reference:.4f} {found[0].format.name}  ({seconds * 1e3:.0f} ms)")
    print("nothing beats the optimum" if optimal else "SOMETHING BEATS THE OPTIMUM")
    raise typer.Exit(not optimal)


if __name__ == "__main__":
    typer.run(main)
