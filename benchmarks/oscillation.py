"""The two knobs of oscillation: learning rate and batch size, INT4 weights fine-tuned at a constant rate.

    python benchmarks/oscillation.py --output runs/oscillation
    python benchmarks/oscillation.py --output runs/oscillation --only-print

MobileNetV2 and ResNet-20 from their pretrained weights, 200 steps, data flow FP134, master weights FP169, nearest and
hysteresis. A weight that moves by u a step flips, rounded to nearest, in a share u / step of the steps, so the flips of
nearest are the mean size of an update in steps of the grid. Printed beside them: what share of the flips goes back
within 10 steps, what hysteresis leaves of the flips, and the difference of the loss over the last tenth.

A row is written to results.csv of OUTPUT as each run ends; give the same command again to go on. One thread; several
processes share the work.
"""

import csv
import itertools
import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from hysteresis_from_scratch import LATE, NETWORKS, with_images

from training import train
from training.oscillation import OFTEN
from workloads import load

RATES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
BATCHES = (32, 128)
ROUNDINGS = ("nearest", "hysteresis")
STEPS, PASSES = 200, 2
KEYS = ["network", "batch_size", "rate", "rounding", "seed"]
FOUND = ["outcome", "loss", "flips", "oscillation", "seconds"]


def compare(table: pd.DataFrame) -> None:
    """Print one line for each network, batch size and rate, means over seeds."""
    rounded = table.groupby(KEYS[:-1])[FOUND[1:-1]].mean().unstack("rounding")
    seeds = table.groupby(KEYS[:-2]).seed.nunique()
    print("network      batch    rate  seeds  flips (nearest)  of which back  hysteresis leaves  loss, less nearest")
    ordered = 0
    for (network, batch, rate), of in rounded.iterrows():
        flips, back = of["flips", "nearest"], of["oscillation", "nearest"]
        print(
            f"{network:12} {batch:5} {rate:7g}  {seeds[network, batch, rate]:5}  {flips:15.4%}  {back / flips:13.1%}  "
            f"{of['flips', 'hysteresis'] / flips:17.2f}  {of['loss', 'nearest']:.4f} "
            f"{of['loss', 'hysteresis'] - of['loss', 'nearest']:+.4f}"
        )
        ordered += (back > OFTEN) == (of["loss", "hysteresis"] < of["loss", "nearest"])
    print(
        f"the lower loss has hysteresis where more than {OFTEN:.2%} flip back, else nearest: in {ordered} of "
        f"{len(rounded)}"
    )


def main(
    output: Annotated[Path, typer.Option(help="folder of the runs, and of results.csv")],
    seeds: Annotated[int, typer.Option(help="runs of each")] = 2,
    only_print: Annotated[bool, typer.Option(help="make no runs")] = False,
) -> None:
    """Make the runs that have no row yet."""
    table = output / "results.csv"
    if only_print:
        compare(pd.read_csv(table))
        return
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    if not table.exists():
        table.write_text(",".join([*KEYS, *FOUND]) + "\n")
    workloads = {network: load(network) for network in NETWORKS}
    order = itertools.product(range(seeds), NETWORKS, BATCHES, RATES, ROUNDINGS)
    for seed, network, batch_size, rate, rounding in order:
        own = (network, str(batch_size), str(rate), rounding, str(seed))
        known = pd.read_csv(table, dtype=str)[KEYS]
        if own in set(known.itertuples(index=False, name=None)):
            continue
        began = time.monotonic()
        try:
            result = train(
                with_images(workloads[network], STEPS // PASSES * batch_size),
                weight="INT4",
                weight_rounding=rounding,
                schedule="constant",
                start="pretrained",
                rate=rate,
                batch_size=batch_size,
                seed=seed,
                epochs=PASSES,
                metric_every=PASSES,
                output=output / "-".join(own),
                resume=True,
            )
        except FileExistsError:  # another process is at it
            continue
        steps = result.steps
        loss = steps.loss.iloc[-STEPS // LATE :].mean()
        found = (result.outcome.value, loss, steps.flip_rate.mean(), steps.oscillation.mean())
        with table.open("a", newline="") as file:
            csv.writer(file).writerow([*own, *found, round(time.monotonic() - began, 1)])
        print(*own, result.outcome.value, f"loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
