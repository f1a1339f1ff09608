"""What predicts training best? The same trainings against the angle of the whole gradient or of the first layer, for E,
A and AE, and against plain noise.

    formats validate benchmarks/resnet20_ranking_current.csv -m resnet20 --batch-size 128 --any-scheme -o runs/validate
    python benchmarks/predictors.py runs/validate/runs.csv benchmarks/exhaustive_resnet20.parquet

Angles are means over the 16 mini-batches of the truth (benchmarks/exhaustive.py). "As trained" are angles over 8
mini-batches, measured here, under the scheme of training (docs/definitions/prediction.md section 6), like projection,
bias and loss; E|A is E given A. Noise
is the noise-to-signal ratio |Q(t) - t|^2 / |t|^2, added up over all activations, all errors, or both, of one
full-precision pass. Printed for each: Spearman's and Kendall's correlation with the final loss and Spearman's
difference to the angle AE of the whole gradient, each with the 95% interval of a bootstrap over formats and seeds; all
see the same samples. The last column widens the difference's interval for having looked at so many predictors
(Bonferroni).
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

import formats
from predictor import measure
from predictor.gradient.gradients import Gradients
from predictor.gradient.noise import Kind, observe
from predictor.statistics import rank_correlations, resamples
from reports import results
from workloads import load

REFERENCE = "angle AE, all"


def noise_sums(model: str, names: list[str]) -> dict[str, np.ndarray]:
    """Sums of noise-to-signal ratios over the tensors of one mini-batch, for each format."""
    workload = load(model)
    chosen = [formats.get(name) for name in names]
    with Gradients(workload, workload.minibatches(64)[0]) as gradients:
        noise = observe(gradients, chosen)
    ratios = noise.ratios(chosen)
    activations, errors = noise.rows(Kind.A), noise.rows(Kind.E)
    return {
        "noise of errors": ratios[:, errors].sum(1),
        "noise of activations": ratios[:, activations].sum(1),
        "noise of both": ratios.sum(1),
    }


def as_trained(model: str, names: list[str]) -> dict[str, np.ndarray]:
    """What `measure` says under the scheme of training: angles, lengths and bias. Projections count by how far they
    are from 1."""
    table = measure(load(model), names, minibatches=8, batch_size=64).set_index("format")
    of = {effect: table[table["effect"] == effect].loc[names] for effect in ("AE", "E", "A", "E|A")}
    return {
        **{f"angle {effect}, as trained": found["angle"].to_numpy() for effect, found in of.items()},
        **{f"projection {effect}": (found["projection"] - 1).abs().to_numpy() for effect, found in of.items()},
        **{f"bias {effect}": found["bias"].to_numpy() for effect, found in of.items()},
        "loss": of["AE"]["loss"].to_numpy(),
    }


def bounds(values: list[float], looks: int = 1) -> str:
    """The middle 95%, widened as Bonferroni does for the best of several looks."""
    outside = 2.5 / looks
    low, high = np.nanpercentile(values, [outside, 100 - outside])
    return f"{low:.3f} to {high:.3f}"


def main(
    runs: Annotated[Path, typer.Argument(help="runs.csv of `formats validate`", exists=True)],
    truth: Annotated[Path, typer.Argument(help="what exhaustive.py wrote", exists=True)],
    model: Annotated[str, typer.Option(help="the network of both")] = "resnet20",
) -> None:
    """Compare."""
    trained = results.read(runs, ("name", "seed", "loss"))
    names = list(dict.fromkeys(trained["name"]))
    losses = [trained["loss"][trained["name"] == name].to_numpy(np.float64) for name in names]
    exact = pd.read_parquet(truth)
    predictors: dict[str, np.ndarray] = {}
    for scope, column in (("all", "angle"), ("first", "angle_first")):
        mean = exact.pivot_table(index="format", columns="effect", values=column).loc[names]
        for effect in ("AE", "E", "A"):
            predictors[f"angle {effect}, {scope}"] = mean[effect].to_numpy()
    predictors |= as_trained(model, names) | noise_sums(model, names)
    found = {name: rank_correlations(x, np.array([row.mean() for row in losses])) for name, x in predictors.items()}
    drawn: dict[str, list[tuple[float, float]]] = {name: [] for name in predictors}
    for chosen, means in resamples(losses, 0):
        for name, x in predictors.items():
            drawn[name].append(rank_correlations(x[chosen], means))
    diverged = int(np.isinf(trained["loss"]).sum())
    print(f"{model}: {len(names)} formats, {len(trained)} trainings, {diverged} diverged")
    if all(len(row) > 1 for row in losses):
        seeds = rank_correlations(*(np.array([row[k] for row in losses]) for k in (0, 1)))
        print(f"the first two seeds' losses with each other: Spearman {seeds[0]:.3f}, Kendall {seeds[1]:.3f}")
    looks = len(predictors) - 1
    print(
        f"{'predictor':22} {'Spearman':>8} {'95%':>16} {'Kendall':>8} {'95%':>16} "
        f"{'Spearman less ' + REFERENCE:>28} {'95%':>16} "
        f"{f'95%, {looks} looks':>16}"
    )
    for name, (spearman, kendall) in found.items():
        own, other = ([pair[0] for pair in drawn[which]] for which in (name, REFERENCE))
        less = [a - b for a, b in zip(own, other, strict=True)]
        print(
            f"{name:22} {spearman:8.3f} {bounds(own):>16} {kendall:8.3f} "
            f"{bounds([pair[1] for pair in drawn[name]]):>16} "
            f"{spearman - found[REFERENCE][0]:28.3f} {bounds(less):>16} {bounds(less, looks):>16}"
        )


if __name__ == "__main__":
    typer.run(main)
