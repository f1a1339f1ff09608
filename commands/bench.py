"""Commands that time: bench emulator, bench gradient."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.options import DataOption, ModelOption, WeightsOption
from commands.printing import say

app = typer.Typer(help="Time the emulator and quantized gradients on this machine.", no_args_is_help=True)


@app.command()
def emulator(
    elements: Annotated[int, typer.Option(help="float32 numbers in the array")] = 1 << 24,
    repeats: Annotated[int, typer.Option(help="counted runs; the median is printed")] = 7,
    format: Annotated[str, typer.Option(help="the format of this project to time")] = "FP134",
) -> None:
    """Time rounding against a copy, ml_dtypes, qtorch and torch's float8, with one and two threads, in one run.

    Examples: formats bench emulator · formats bench emulator --elements 1024 --repeats 1001
    """
    from formats.conformance.speed import run as time_emulator
    from reports.tables.machine import times

    title = f"rounding {elements} float32 to 8 bits, median of {repeats}"
    say(times(title, ("threads", "ns an element", "x copy", "GB/s"), time_emulator(elements, repeats, format)))


@app.command()
def gradient(
    model: ModelOption = "resnet18",
    data: DataOption = None,
    weights: WeightsOption = None,
    format: Annotated[str, typer.Option(help="the format that quantizes data flow")] = "FP134",
    batch_size: Annotated[int, typer.Option(help="examples a mini-batch")] = 128,
    repeats: Annotated[int, typer.Option(help="counted runs; the median is printed")] = 5,
) -> None:
    """Time a quantized gradient (AE) against the full-precision one, in one run.

    Examples: formats bench gradient · formats bench gradient -m torchvision:resnet50 --data imagefolder:photos
    --batch-size 16
    """
    from predictor.requirements.speed import time_gradient
    from reports.tables.machine import times
    from workloads import load

    rows = time_gradient(load(model, data, weights), format, batch_size, repeats)
    say(times(f"{model}, batch {batch_size}, median of {repeats}", ("seconds", "x full precision"), rows))
