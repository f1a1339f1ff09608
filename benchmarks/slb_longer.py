"""SLB with more epochs than benchmarks/methods_table.py gives it: does the order of its bits come back?

    python benchmarks/slb_longer.py --output runs/slb
    python benchmarks/slb_longer.py --output runs/slb --only-print

The settings of that table (ResNet-20, the 12,800 bundled images, from scratch, batch 128, rate 0.1) with EPOCHS epochs,
in which the temperature grows GROWTH times between the fifth part of them and the last. Every run is a folder of
OUTPUT; finished ones are read, ended ones go on from their checkpoint, and several processes may share OUTPUT. Prints,
for each seed, test accuracy and the last epoch's mean training loss.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

sys.path.insert(0, str(Path(__file__).parent))
from methods_table import BATCH, FULL, SEARCH

from numeric_formats.files import Held
from training import train
from training.log import STEPS
from training.loop import RESULT
from training.methods import SLB
from workloads import load

EPOCHS, GROWTH = 20, 1000.0
FROM, TO = 0.2, 0.8


def method_of(bits: int | None) -> SLB | None:
    """SLB with weights of so many bits; None for full precision."""
    growing = int(EPOCHS * TO) - int(EPOCHS * FROM)
    options: dict[str, Any] = SEARCH | {"t_start_time": FROM, "t_end_time": TO, "t_factor": GROWTH ** (1 / growing)}
    return None if bits is None else SLB(bits=bits, **options)


def main(
    output: Annotated[Path, typer.Option(help="folder of the runs")],
    seeds: Annotated[int, typer.Option(help="runs of each")] = 1,
    only_print: Annotated[bool, typer.Option(help="train nothing")] = False,
) -> None:
    """Train what is not trained yet, then print the table."""
    torch.set_num_threads(1)
    runs = [
        (name, bits, seed, output / f"{name.lower().replace(' ', '-')}-{seed}")
        for seed in range(seeds)
        for name, bits in (("SLB W4", 4), ("SLB W1", 1), ("SLB W2", 2), ("full precision", None))
    ]
    for _, bits, seed, folder in [] if only_print else runs:
        try:
            train(
                load("resnet20"),
                method=method_of(bits),
                **({} if bits else FULL),
                epochs=EPOCHS,
                rate=0.1,
                seed=seed,
                batch_size=BATCH,
                checkpoint_every=50,
                metric_every=EPOCHS,
                output=folder,
                resume=True,
            )
        except Held:  # by another process
            continue
    print(f"{EPOCHS} epochs from scratch   seed   accuracy, %    loss")
    for name, _, seed, folder in runs:
        if (folder / RESULT).exists():
            steps = pd.read_parquet(folder / STEPS)
            accuracy = 100 * json.loads((folder / RESULT).read_text())["metric"]
            print(f"{name:24} {seed:4} {accuracy:13.1f} {steps[steps.epoch == EPOCHS].loss.mean():7.3f}")


if __name__ == "__main__":
    typer.run(main)
