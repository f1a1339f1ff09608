"""The truth that the fast ranking is checked against: every format of the catalogue measured on every mini-batch.

    python benchmarks/exhaustive.py resnet20 --output runs/resnet20
    python benchmarks/exhaustive.py cifar10 --weights WEIGHTS.pt --images IMAGES.zip --output runs/cifar10

    python benchmarks/exhaustive.py transformer --effects E --scheme paper --output runs/transformer
    python benchmarks/exhaustive.py resnet20 --effects E --batch-size 32 --output runs/resnet20_32

Effects E, A and AE on 16 mini-batches of 64. Each finished mini-batch is one file in OUTPUT, so that a run that ended
goes on where it was and two processes can share the work (`--first 0 --step 2` and `--first 1 --step 2`). Once all are
there, OUTPUT.parquet holds one row for each format, effect and mini-batch: the angle of the whole gradient, and that of
the first layer.
"""

import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from cifar10_resnet20 import cifar10_resnet20

import formats
from numeric_formats.files import write_atomically
from predictor.columns import FIRST
from predictor.effects import DEFAULT_EFFECTS, check_effects
from predictor.measuring.session import Measuring
from predictor.measuring.units import check_minibatches
from predictor.scheme import Preset, scheme_of
from workloads import Workload, load

BATCH = 64


def chosen_workload(
    name: str, minibatches: int, weights: Path | None, images: Path | None, batch_size: int = BATCH
) -> Workload:
    """A bundled workload, or the CIFAR-10 ResNet-20 from files."""
    if name != "cifar10":
        return load(name)
    if weights is None or images is None:
        raise typer.BadParameter("cifar10 needs --weights and --images")
    return cifar10_resnet20(weights, images, minibatches, batch_size)


def main(
    model: Annotated[str, typer.Argument(help="a bundled network, or cifar10")],
    output: Annotated[Path, typer.Option(help="folder of the finished mini-batches")],
    weights: Annotated[Path | None, typer.Option(help="state dict of the CIFAR-10 ResNet-20")] = None,
    images: Annotated[Path | None, typer.Option(help="CIFAR-10 as JPEG files in a zip archive")] = None,
    effects: Annotated[str, typer.Option(help="comma-separated")] = ",".join(DEFAULT_EFFECTS),
    scheme: Annotated[str, typer.Option(help="as of formats rank")] = Preset.CURRENT.value,
    batch_size: Annotated[int, typer.Option(help="examples in a mini-batch")] = BATCH,
    minibatches: Annotated[int, typer.Option(help="how many")] = 16,
    first: Annotated[int, typer.Option(help="the first mini-batch of this process")] = 0,
    step: Annotated[int, typer.Option(help="how many processes share the work")] = 1,
    threads: Annotated[int, typer.Option(help="threads of this process")] = 1,
) -> None:
    """Measure all 498 formats."""
    torch.set_num_threads(threads)
    workload = chosen_workload(model, minibatches, weights, images, batch_size)
    wanted, rules = check_effects(effects.split(",")), scheme_of(scheme)
    size = batch_size if callable(workload.batches) else None
    batches = check_minibatches(workload, minibatches, size)
    candidates = list(formats.catalogue())
    output.mkdir(parents=True, exist_ok=True)
    for number in range(first, minibatches, step):
        target = output / f"{number:02}.parquet"
        if target.exists():
            continue
        began = time.monotonic()
        rows: list[tuple[object, ...]] = []
        total = len(wanted) * len(candidates)
        for found in Measuring(workload, scheme=rules).measured(candidates, [batches[number]], wanted):
            name = candidates[found.format].name
            rows.append(
                (name, found.effect.value, number, found.angle(), found.angle(FIRST), found.failed(), found.seconds)
            )
            if len(rows) % 300 == 0:
                print(f"mini-batch {number}: {len(rows)}/{total}, {time.monotonic() - began:.0f} s", flush=True)
        columns = ["format", "effect", "minibatch", "angle", "angle_first", "failed", "seconds"]
        table = pd.DataFrame(rows, columns=columns)
        write_atomically(target, lambda file, table=table: table.to_parquet(file))  # type: ignore[misc]
        print(f"mini-batch {number} done in {time.monotonic() - began:.0f} s", flush=True)
    parts = sorted(output.glob("[0-9][0-9].parquet"))
    if len(parts) == minibatches:
        whole = pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)
        write_atomically(output.with_suffix(".parquet"), lambda file: whole.to_parquet(file, compression="zstd"))
        print(f"wrote {output.with_suffix('.parquet')}: {len(whole)} angles, {whole.seconds.sum():.0f} s of measuring")


if __name__ == "__main__":
    typer.run(main)
