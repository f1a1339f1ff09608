"""Does hysteresis help? ResNet-20 from scratch on the bundled images, FP134 and LOG4 weights, three roundings, three
seeds.

    python benchmarks/hysteresis.py --output runs/hysteresis --epochs 10

Data flow is FP134, master weights FP169. All runs share the recipe; each seed decides weights, order and stochastic
rounding for the three roundings alike. Every run is a folder of OUTPUT: finished ones are read, ended ones go on from
their checkpoint. Prints, for each weight format and rounding, mean and 95% t-interval over seeds of the test accuracy,
the last epoch's loss and the share of weights that flip in a step (all steps, and the last tenth), and of the
differences to nearest, seed by seed.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from predictor.statistics import interval as t_interval
from training import Result, train
from workloads import Workload, load

WEIGHTS = ("FP134", "LOG4")
ROUNDINGS = ("hysteresis", "nearest", "stochastic")
COLUMNS = ("accuracy", "loss", "flips", "late flips")
BATCH = 128


def limited(workload: Workload, limit: int | None) -> Workload:
    """The workload with at most `limit` mini-batches for training."""
    assert callable(workload.train)
    return replace(workload, train=workload.train(BATCH)[:limit])


def facts(result: Result) -> list[float]:
    """One number for each of COLUMNS; NaN where a run diverged before its first epoch ended."""
    rates = result.steps.flip_rate
    metric = float("nan") if result.metric is None else result.metric
    loss = float("nan") if result.epochs.empty else float(result.epochs.loss.iloc[-1])
    return [metric, loss, float(rates.mean()), float(rates.iloc[-max(1, len(rates) // 10) :].mean())]


def interval(values: Sequence[float], digits: int = 4) -> str:
    """Mean and half-width of the 95% t-interval, the mean alone of one value."""
    mean, low, _ = t_interval(np.array(values, np.float64))
    return f"{mean:.{digits}f}" + (f" ± {mean - low:.{digits}f}" if len(values) > 1 else "")


def main(
    output: Annotated[Path, typer.Option(help="folder of the runs")],
    epochs: Annotated[int, typer.Option(help="passes over the training images")] = 10,
    seeds: Annotated[int, typer.Option(help="runs of each")] = 3,
    first_seed: Annotated[
        int, typer.Option(help="the first seed; two processes may share OUTPUT, each with seeds of its own")
    ] = 0,
    limit: Annotated[int | None, typer.Option(help="mini-batches an epoch; default: all")] = None,
    rate: Annotated[float, typer.Option(help="the largest learning rate")] = 0.1,
    threads: Annotated[int, typer.Option(help="threads of this process")] = 1,
) -> None:
    """Train what is not trained yet, then print the table."""
    torch.set_num_threads(threads)
    workload = limited(load("resnet20"), limit)
    found: dict[tuple[str, str], list[list[float]]] = {(w, r): [] for w in WEIGHTS for r in ROUNDINGS}
    # Seed by seed, so that a run that ended early has compared all of a kind.
    for seed in range(first_seed, first_seed + seeds):
        for weight, rounding in found:
            folder = output / f"{weight}-{rounding}-{seed}"
            result = train(
                workload,
                weight=weight,
                weight_rounding=rounding,
                epochs=epochs,
                seed=seed,
                rate=rate,
                checkpoint_every=50,
                angle_every=100,
                metric_every=epochs,
                output=folder,
                resume=True,
            )
            found[weight, rounding].append(facts(result))
            print(
                f"{folder.name}: {result.outcome}, "
                + ", ".join(f"{n} {v:.4f}" for n, v in zip(COLUMNS, facts(result), strict=True)),
                flush=True,
            )
    print(
        f"resnet20 from scratch, {epochs} epochs of {len(workload.train or ())} mini-batches of {BATCH}, "
        f"{seeds} seeds, rate {rate}"
    )
    for against in (None, "nearest"):
        print(
            f"{'weights':8} {'rounding':11} "
            + " ".join(f"{name:>18}" for name in COLUMNS)
            + (f"   less {against}" if against else "")
        )
        for (weight, rounding), rows in found.items():
            if rounding == against:
                continue
            values = np.array(rows) - (np.array(found[weight, against]) if against else 0)
            print(f"{weight:8} {rounding:11} " + " ".join(f"{interval(column):>18}" for column in values.T))


if __name__ == "__main__":
    typer.run(main)
