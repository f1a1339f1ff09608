"""Where does hysteresis help? Few-bit weights from scratch, until full precision has converged.

    python benchmarks/hysteresis_from_scratch.py --output runs/from_scratch
    python benchmarks/hysteresis_from_scratch.py --output runs/from_scratch --only-print    # what they found

MobileNetV2 and ResNet-20, data flow FP134, master weights FP169, weights INT4, LOG4, INT3 and FP134: hysteresis,
nearest and stochastic rounding, nearest with dampening or with freezing, and hysteresis that is released to nearest for
the last quarter; schemes paper and authors; the rate falls by a cosine or in steps; three seeds. All of float32 is
trained beside them. What is expected of it stands in docs/results/hysteresis.md, and was written before the first run.

A row is written to results.csv of OUTPUT as each run ends. Runs that have a row are not made again, ended ones go on
from their checkpoint; give the same command again. One thread; several processes share the work. The runs that decide
the paper's third claim come first. --start pretrained, --rate and --batch-size are for the second part, fine-tuning,
--images for an experiment in small, with fewer images and more epochs: say another OUTPUT.

    python benchmarks/hysteresis_from_scratch.py --output runs/few_images --images 1280 --epochs 40 --batch-size 32
"""

import csv
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from formats.lookup import FULL_PRECISION
from predictor.statistics import interval
from training import Result, train
from training.settings import Start
from workloads import Workload, load

NETWORKS = ("mobilenetv2", "resnet20")
WEIGHTS = ("INT4", "LOG4", "INT3", "FP134")
MEANS: dict[str, dict[str, str]] = {
    "nearest": {"weight_rounding": "nearest"},
    "hysteresis": {"weight_rounding": "hysteresis"},
    "dampening": {"weight_rounding": "nearest", "dampening": "0:0.01"},
    "freezing": {"weight_rounding": "nearest", "freezing": "0.04:0.01"},
    "stochastic": {"weight_rounding": "stochastic"},
    "hysteresis-first": {"weight_rounding": "hysteresis"},
}
RELEASED = 0.75
"""From what part of the epochs on hysteresis-first rounds to nearest."""
SCHEMES = ("paper", "authors")
SCHEDULES = ("cosine", "steps")
NONE = "none"
FLOAT32 = dict.fromkeys(("activation", "error", "weight", "gradient", "master"), FULL_PRECISION)
FOUND = (
    "outcome",
    "loss",
    "metric",
    "flips",
    "late_flips",
    "oscillation",
    "late_oscillation",
    "steps",
    "seconds",
)
LATE = 10
"""Late is the last of so many equal parts of a run's steps."""


@dataclass(frozen=True)
class Cell:
    """What tells a run from the others; `means` and `scheme` are none of full precision."""

    network: str
    weight: str
    means: str
    scheme: str
    schedule: str
    seed: int

    @property
    def decides(self) -> bool:
        """Whether INT4 with and without hysteresis, as the paper trains, is told apart by it."""
        asked = self.means in (NONE, "nearest", "hysteresis") and self.weight in (FULL_PRECISION, "INT4")
        return asked and self.scheme != "authors" and self.schedule == "cosine"

    @property
    def turn(self) -> tuple[int, int]:
        """When it is made, less is sooner: what decides; hysteresis and nearest with other weights, seed by seed; the
        same with INT4 and LOG4 where the rate falls in steps; then seed by seed other means with INT4, the authors'
        scheme, and all else."""
        if self.decides:
            return (-2, 0)
        main = self.means in (NONE, "nearest", "hysteresis")
        if main and self.scheme != "authors" and self.schedule == "cosine":
            return (-1, self.seed)
        if main and self.scheme != "authors" and self.weight in (FULL_PRECISION, "INT4", "LOG4"):
            return (-1, 10 + self.seed)
        if self.schedule == "cosine" and self.weight == "INT4":
            return (self.seed, 1 if self.scheme != "authors" else 2)
        return (self.seed, 3)

    def options(self, epochs: int) -> dict[str, Any]:
        """What `train` is given for it."""
        shared = {"schedule": self.schedule, "seed": self.seed}
        if self.weight == FULL_PRECISION:
            return {**FLOAT32, **shared}
        if self.means == "hysteresis-first":
            shared["hysteresis_epochs"] = round(RELEASED * epochs)
        return {"weight": self.weight, "scheme": self.scheme, **MEANS[self.means], **shared}


def cells(seeds: int) -> Iterator[Cell]:
    """All runs, in the order in which they are made, seed by seed within a turn."""
    every = []
    for seed, schedule in itertools.product(range(seeds), SCHEDULES):
        every += [Cell(network, FULL_PRECISION, NONE, NONE, schedule, seed) for network in NETWORKS]
        rounded = itertools.product(SCHEMES, WEIGHTS, NETWORKS, MEANS)
        every += [Cell(network, weight, means, scheme, schedule, seed) for scheme, weight, network, means in rounded]
    yield from sorted(every, key=lambda cell: cell.turn)


def with_images(workload: Workload, images: int | None) -> Workload:
    """The workload that trains on no more than its first images, whole mini-batches of them."""

    if images is None:
        return workload

    def first(size: int) -> Sequence[Any]:
        return replace(workload, batches=workload.train).minibatches(size)[: images // size]

    return replace(workload, train=first)


def done(table: Path) -> set[tuple[str, ...]]:
    """The cells that have a row."""
    known = pd.read_csv(table, dtype=str, keep_default_na=False)[[field.name for field in fields(Cell)]]
    return set(known.itertuples(index=False, name=None))


def facts(result: Result, seconds: float) -> dict[str, Any]:
    """The columns of FOUND."""
    steps = result.steps
    late = steps.iloc[-max(1, len(steps) // LATE) :]
    loss = float(result.epochs.loss.iloc[-1]) if len(result.epochs) else float("nan")
    values = (result.outcome.value, loss, result.metric, steps.flip_rate.mean(), late.flip_rate.mean())
    values += (steps.oscillation.mean(), late.oscillation.mean(), len(steps), round(seconds, 1))
    return dict(zip(FOUND, values, strict=True))


def compare(table: pd.DataFrame) -> None:
    """Print what each means does, seed by seed: final loss and metric, what the metric lies below that of float32, what
    it and the flips are against nearest rounding, and how much oscillates in the end."""
    keys = ["network", "weight", "means", "scheme", "schedule"]
    known = {key: rows.set_index("seed") for key, rows in table.groupby(keys)}
    none = table.head(0).set_index("seed")

    def paired(own: pd.DataFrame, other: pd.DataFrame, column: str, scale: float) -> str:
        both = own[column].to_frame("own").join(other[column].rename("other"), how="inner")
        mean, low, high = interval(scale * (both["own"] - both["other"]).to_numpy()) if len(both) else (math.nan,) * 3
        return f"{mean:+.2f}" if math.isnan(low) else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"

    print(
        f"{'network':12} {'weight':7} {'means':16} {'scheme':7} {'schedule':8} seeds   loss  metric "
        f"{'points over float32':>24} {'points over nearest':>24} flips of nearest  oscillate late"
    )
    for key, own in known.items():
        network, weight, means, scheme, schedule = key
        full = known.get((network, FULL_PRECISION, NONE, NONE, schedule), none)
        nearest = known.get((network, weight, "nearest", scheme, schedule), none) if means != NONE else full
        said = f"{network:12} {weight:7} {means:16} {scheme:7} {schedule:8} {len(own):5} {own['loss'].mean():6.4f}"
        said += f"  {100 * own['metric'].mean():5.2f}% {paired(own, full, 'metric', 100):>24}"
        if means not in (NONE, "nearest"):
            said += f" {paired(own, nearest, 'metric', 100):>24}"
            said += f" {own['flips'].mean() / nearest['flips'].mean():16.2f}"
        else:
            said += f" {'':24} {'':16}"
        print(said if means == NONE else f"{said} {own['late_oscillation'].mean():15.2%}")
    own = ["network", "weight", "scheme", "schedule", "seed"]
    nearest, other = (table[table.means == means].set_index(own) for means in ("nearest", "hysteresis"))
    pairs = nearest.index.intersection(other.index)
    less = nearest.loc[pairs, ["loss", "metric"]] - other.loc[pairs, ["loss", "metric"]]
    print(
        f"nearest against hysteresis, {len(pairs)} pairs: lower loss in {(less.loss < 0).sum()}, better metric in "
        f"{(less.metric > 0).sum()}, the same in {(less.metric == 0).sum()}"
    )


def main(
    output: Annotated[Path, typer.Option(help="folder of the runs, and of results.csv")],
    epochs: Annotated[int, typer.Option(help="passes over the training images")] = 30,
    seeds: Annotated[int, typer.Option(help="runs of each")] = 3,
    rate: Annotated[float, typer.Option(help="the largest learning rate")] = 0.1,
    batch_size: Annotated[int, typer.Option(help="images in a step")] = 128,
    images: Annotated[int | None, typer.Option(help="the first so many of the training images alone")] = None,
    warmup: Annotated[int, typer.Option(help="steps in which the rate rises, so that delayed scales follow")] = 100,
    start: Annotated[Start, typer.Option(help="scratch or pretrained")] = Start.SCRATCH,
    only_print: Annotated[bool, typer.Option(help="make no runs")] = False,
) -> None:
    """Make the runs that have no row yet."""
    table, keys = output / "results.csv", [field.name for field in fields(Cell)]
    if only_print:
        compare(pd.read_csv(table, keep_default_na=False, na_values=["nan", ""]))
        return
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    if not table.exists():
        table.write_text(",".join([*keys, *FOUND]) + "\n")
    workloads = {network: with_images(load(network), images) for network in NETWORKS}
    for cell in cells(seeds):
        own = tuple(str(value) for value in asdict(cell).values())
        if own in done(table):
            continue
        began = time.monotonic()
        try:
            result = train(
                workloads[cell.network],
                **cell.options(epochs),
                epochs=epochs,
                rate=rate,
                batch_size=batch_size,
                warmup=warmup,
                start=start,
                checkpoint_every=100,
                metric_every=epochs if cell.scheme != "authors" else 1,  # which reports its best epoch
                output=output / "-".join(own),
                resume=True,
            )
        except FileExistsError:  # another process is at it
            continue
        row = {**asdict(cell), **facts(result, time.monotonic() - began)}
        with table.open("a", newline="") as file:
            csv.DictWriter(file, [*keys, *FOUND]).writerow(row)
        print(*own, row["outcome"], f"loss {row['loss']:.4f}, metric {row['metric']}", flush=True)


if __name__ == "__main__":
    typer.run(main)
