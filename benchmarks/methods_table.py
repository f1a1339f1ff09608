"""All training methods on one network: accuracy, angle, flips and step time, at few and at many bits.

    python benchmarks/methods_table.py --output runs/methods            # three seeds
    python benchmarks/methods_table.py --output runs/methods --only "Octo apart" --seeds 1
    python benchmarks/methods_table.py --output runs/methods --time     # step times alone, with nothing else running
    python benchmarks/methods_table.py --output runs/methods --only-print

ResNet-20, the 12,800 bundled images. Gradient methods and SLB are trained from scratch for 5 epochs at rate 0.1, LSQ
and LSQ+ for 3 from the bundled weights at rate 0.01; full precision both ways. "plain" is Unified INT8 without search
and without its learning rates: scaling by the largest magnitude. Every run is a folder of OUTPUT: finished ones are
read, ended ones go on from their checkpoint, and several processes may share OUTPUT. Prints mean and 95% t-interval
over seeds of the test accuracy, the last epoch's loss, the mean angle of the layers (of the last epoch's samples) and
the part of weights whose codes flip in a step (same); the step's time is that of --time, relative to plain torch. Then
differences between gradient methods, seed by seed. Angles are not defined for SLB, whose gradients are those of other
parameters. Octo, which rounds errors to nearest where the others round stochastically, is taken apart to see what its
angle comes from.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import typer
from matplotlib.ticker import NullLocator

sys.path.insert(0, str(Path(__file__).parent))
from hysteresis import interval
from training_step import full_step

from numeric_formats.files import Held, write_json
from reports.plots import style
from training import train
from training.log import STEPS
from training.loop import RESULT
from training.methods import LSQ, SLB, DistributionAdaptiveInt8, LSQPlus, Method, Octo, UnifiedInt8, dai8
from training.scheme import TensorFormats
from training.settings import TrainingSettings
from training.step import Trainer
from workloads import load

SCRATCH: dict[str, Any] = {"epochs": 5, "rate": 0.1}
FINE: dict[str, Any] = {"epochs": 3, "rate": 0.01, "start": "pretrained"}
FULL: dict[str, Any] = {
    "activation": "float32",
    "error": "float32",
    "weight": "float32",
    "gradient": "float32",
    "master": "float32",
}
BATCH, ANGLE_EVERY = 128, 50
PLAIN: dict[str, Any] = {"alpha": 0.0, "search": "none"}
SEARCH: dict[str, Any] = {"t_end_time": 0.8, "t_factor": 10.0, "bn_calibration": True, "activation_delay": 200}
"""Temperatures of the five epochs: 1, 10, 100, and 1000 with the likeliest values from the fourth on."""
TRICKS = ("UI8", "DAI8", "Octo")
TIMES = "step_times.json"
TICKS = (5, 10, 20, 50, 90)
SHOWN = ((100, 1), (1, 3), (1, 1), (100, 2))
"""Of accuracy, loss, angle and flips: the factor and the digits that are printed."""


def settings() -> dict[str, tuple[str, Method | None, dict[str, Any]]]:
    """By name: its part of the table, the method, and the recipe."""
    found: dict[str, tuple[str, Method | None, dict[str, Any]]] = {"full precision": ("from scratch", None, SCRATCH)}
    for error in ("INT8", "INT4"):
        e = f"{error[3:]}-bit gradients"
        found[f"plain INT8, {e}"] = "from scratch", UnifiedInt8(error_format=error, **PLAIN), SCRATCH
        found[f"UI8, {e}"] = "from scratch", UnifiedInt8(error_format=error), SCRATCH
        found[f"DAI8, {e}"] = "from scratch", DistributionAdaptiveInt8(error_format=error), SCRATCH
        found[f"Octo, {e}"] = "from scratch", Octo(error_format=error), SCRATCH
    found["plain FP134"] = "FP134 in place of INT8", UnifiedInt8(format="FP134", **PLAIN), SCRATCH
    found["UI8 with FP134"] = "FP134 in place of INT8", UnifiedInt8(format="FP134"), SCRATCH
    found["DAI8 with FP134"] = "FP134 in place of INT8", DistributionAdaptiveInt8(format="FP134"), SCRATCH
    found["Octo with FP134"] = "FP134 in place of INT8", Octo(format="FP134"), SCRATCH
    nearest = UnifiedInt8(**PLAIN, error_rounding="nearest")
    apart = {
        "no range clipping": Octo(clip=1.0),
        "no compensation": Octo(compensation=False),
        "plain INT8, errors to nearest": nearest,
    }
    for what, method in apart.items():
        found[f"Octo apart: {what}"] = "Octo taken apart", method, SCRATCH
    for bits in (4, 2, 1):
        for activations in (False, True):
            name = f"SLB W{bits}{'A8' if activations else ''}"
            found[name] = "from scratch", SLB(bits=bits, activations=activations, **SEARCH), SCRATCH
    found["full precision, fine-tuned"] = "from the bundled weights", None, FINE
    for bits in (4, 3, 2):
        found[f"LSQ W{bits}A{bits}"] = "from the bundled weights", LSQ(weight_bits=bits, activation_bits=bits), FINE
        found[f"LSQ+ W{bits}A{bits}"] = (
            "from the bundled weights",
            LSQPlus(weight_bits=bits, activation_bits=bits),
            FINE,
        )
    return found


def folder_of(output: Path, name: str, seed: int) -> Path:
    """Where a run lies."""
    return output / f"{name.lower().replace(',', '').replace(':', '').replace('+', 'plus').replace(' ', '-')}-{seed}"


def run_one(output: Path, name: str, seed: int) -> bool:
    """Train what is not trained yet; False where another process does."""
    folder = folder_of(output, name, seed)
    if (folder / RESULT).exists():
        return True
    _, method, recipe = settings()[name]
    formats = FULL if method is None else {}
    began = time.monotonic()
    try:
        found = train(
            load("resnet20"), method=method, **recipe, **formats, seed=seed, batch_size=BATCH, angle_every=ANGLE_EVERY,
            checkpoint_every=50, metric_every=recipe["epochs"], output=folder, resume=True,
        )  # fmt: skip
    except Held:
        return False
    print(
        f"{time.strftime('%H:%M:%S')} {folder.name}: {found.outcome}, {found.metric}, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return True


def facts(output: Path, name: str, seed: int) -> list[float] | None:
    """Accuracy, loss, layer angle and flips of a finished run, the last three means over its last epoch."""
    folder = folder_of(output, name, seed)
    if not (folder / RESULT).exists():
        return None
    result, steps = json.loads((folder / RESULT).read_text()), pd.read_parquet(folder / STEPS)
    last = steps[steps.epoch == steps.epoch.max()]
    metric = float("nan") if result["metric"] is None or result["outcome"] != "finished" else result["metric"]
    return [metric, last.loss.mean(), last.layer_angle.mean(), last.flip_rate.mean()]


def trainer_of(method: Method) -> Callable[[], None]:
    """A step of a method, ready to be timed."""
    own = load("resnet20")
    batch = own.minibatches(BATCH)[0]
    tensor_formats = TensorFormats(activation=None, error=None, weight=None, gradient=None, master=None)
    trainer = Trainer(
        own, own.model.train(), tensor_formats, TrainingSettings(epochs=1, rate=0.01), 1000, method, [batch]
    )
    trainer.begin_epoch(1)

    def step() -> None:
        with trainer:
            trainer.step(batch)

    return step


def taking_turns(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after two uncounted rounds."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for counted in range(-2, repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if counted >= 0:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def step_times(names: list[str], repeats: int) -> dict[str, float]:
    """Seconds of a step relative to one of plain torch: all take turns in this process, and the medians are
    compared."""
    workload = load("resnet20")
    steps: dict[str, Callable[[], None]] = {"torch": full_step(workload, workload.minibatches(BATCH)[0])}
    for name in names:
        _, method, _ = settings()[name]
        if method is not None:
            steps[name] = trainer_of(method)
    taken = taking_turns(steps, repeats)
    print(
        f"a step of plain torch: {taken['torch']:.3f} s, batch {BATCH}, {torch.get_num_threads()} threads, "
        f"median of {repeats}"
    )
    return {name: seconds / taken["torch"] for name, seconds in taken.items()}


def statistics_shares(repeats: int) -> None:
    """Print what part of their steps DAI8 and UI8 spend on their statistics."""
    spent: list[float] = []
    original = dai8.channel_statistics

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        found = original(*arguments)
        spent.append(time.perf_counter() - began)
        return found

    dai8.channel_statistics = timed
    try:
        step = trainer_of(DistributionAdaptiveInt8())
        for _ in range(2):
            step()
        spent.clear()
        began = time.perf_counter()
        for _ in range(repeats):
            step()
        print(f"DAI8: statistics of channels take {100 * sum(spent) / (time.perf_counter() - began):.1f}% of the step")
    finally:
        dai8.channel_statistics = original
    period = UnifiedInt8().period
    kinds = {
        "plain": UnifiedInt8(**PLAIN),
        "UI8": UnifiedInt8(period=10**6),
        "search in every step": UnifiedInt8(period=1),
    }
    taken = taking_turns({name: trainer_of(method) for name, method in kinds.items()}, repeats)
    search = (taken["search in every step"] - taken["UI8"]) / period
    whole = taken["UI8"] + search
    print(
        f"UI8: the deviation takes {100 * (taken['UI8'] - taken['plain']) / whole:.1f}% of the step, "
        f"the search, once in {period} steps, {100 * search / whole:.1f}%"
    )


def cells(rows: list[list[float]]) -> list[str]:
    """Mean and interval of each of the four facts over seeds; - where there is none."""
    found = []
    for k, (factor, digits) in enumerate(SHOWN):
        values = [factor * row[k] for row in rows]
        found.append(interval(values, digits) if rows and not np.isnan(values).any() else "-")
    return found


def show(output: Path, names: list[str], seeds: int) -> None:
    """Print the table."""
    times = json.loads((output / TIMES).read_text()) if (output / TIMES).exists() else {}
    width = max(map(len, names))
    for part in dict.fromkeys(settings()[name][0] for name in names):
        print(
            f"\n{part:{width}} {'accuracy, %':>13} {'loss':>15} {'layer angle':>13} {'flips, %':>12} {'step':>5} seeds"
        )
        for name in names:
            if settings()[name][0] != part:
                continue
            rows = [row for seed in range(seeds) if (row := facts(output, name, seed)) is not None]
            time_of = f"{times[name]:.2f}" if name in times else "-"
            accuracy, loss, angle, flips = cells(rows)
            print(f"{name:{width}} {accuracy:>13} {loss:>15} {angle:>13} {flips:>12} {time_of:>5} {len(rows)}")


def differences(output: Path, seeds: int) -> None:
    """Print differences seed by seed: what clipping changes with INT8, with errors in INT4 and with FP134, FP134
    without it against INT8, and others."""
    plain, bits8 = "plain FP134", "8-bit gradients"
    pairs = [(f"{trick}, {kind}", f"plain INT8, {kind}") for kind in (bits8, "4-bit gradients") for trick in TRICKS]
    pairs += [(f"{trick} with FP134", plain) for trick in TRICKS]
    pairs += [(plain, f"{method}, {bits8}") for method in ("plain INT8", *TRICKS)]
    pairs += [(name, "full precision") for name in (plain, f"plain INT8, {bits8}")]
    pairs += [
        (name, f"{'plain INT8' if 'plain' in name else 'Octo'}, {bits8}")
        for name in settings()
        if name.startswith("Octo apart")
    ]
    pairs += [("SLB W1", "SLB W4"), ("SLB W1", "full precision")]
    width = max(len(name) + len(other) for name, other in pairs) + len(" less ")
    print(f"\n{'difference, seed by seed':{width}} {'accuracy, %':>13} {'loss':>15} {'layer angle':>13} seeds")
    for name, other in pairs:
        both = [(facts(output, name, seed), facts(output, other, seed)) for seed in range(seeds)]
        rows = [
            [mine - theirs for mine, theirs in zip(a, b, strict=True)]
            for a, b in both
            if a is not None and b is not None
        ]
        accuracy, loss, angle, _ = cells(rows)
        print(f"{name + ' less ' + other:{width}} {accuracy:>13} {loss:>15} {angle:>13} {len(rows)}")


def draw(output: Path, seeds: int, path: Path) -> None:
    """Layer angle and test accuracy of the gradient methods with errors in INT4, INT8 and everything in FP134."""
    names = {"plain": "plain INT8, {}", "UI8": "UI8, {}", "DAI8": "DAI8, {}", "Octo": "Octo, {}"}
    kinds = {
        "INT8, errors INT4": "4-bit gradients",
        "INT8": "8-bit gradients",
        "FP134": "FP134",
    }
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for number, (label, kind) in enumerate(kinds.items()):
        for place, (method, pattern) in enumerate(names.items()):
            name = (
                pattern.format(kind)
                if kind != "FP134"
                else (f"{method} FP134" if method == "plain" else f"{method} with FP134")
            )
            rows = [row for seed in range(seeds) if (row := facts(output, name, seed)) is not None]
            at = place + 0.2 * (number - 1)
            for axis, column in zip(axes, (2, 0), strict=True):
                values = [row[column] for row in rows]
                axis.plot(
                    [at] * len(values),
                    values,
                    "o",
                    markersize=4,
                    alpha=0.5,
                    color=style.COLOURS[number],
                    markeredgewidth=0,
                )
                first = label if place == 0 else None
                axis.plot(
                    [at],
                    [np.mean(values) if values else np.nan],
                    "_",
                    markersize=16,
                    markeredgewidth=2.5,
                    color=style.COLOURS[number],
                    label=first,
                )
    for axis, what in zip(axes, ("mean angle of the layers, degrees", "test accuracy"), strict=True):
        axis.set(xticks=range(len(names)), xticklabels=list(names), ylabel=what)
        axis.grid(True, axis="y", linewidth=0.4, alpha=0.5)
    axes[0].set_yscale("log")
    axes[0].set_yticks(TICKS, [str(tick) for tick in TICKS])
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle("ResNet-20 from scratch, 5 epochs: does the format make clipping unnecessary?", fontsize=10)
    style.save(figure, path)


def main(
    output: Annotated[Path, typer.Option(help="folder of the runs")],
    seeds: Annotated[int, typer.Option(help="runs of each")] = 3,
    threads: Annotated[int, typer.Option(help="threads of this process")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="settings whose name contains this; may be repeated")] = None,
    time_steps: Annotated[
        bool, typer.Option("--time", help="measure step times, with two threads and nothing else running")
    ] = False,
    only_print: Annotated[bool, typer.Option(help="train nothing")] = False,
    plot: Annotated[Path | None, typer.Option(help="draw the gradient methods into this file too")] = None,
) -> None:
    """Train what is not trained yet, then print the table."""
    torch.set_num_threads(2 if time_steps else threads)
    names = [name for name in settings() if not only or any(part in name for part in only)]
    if time_steps:
        write_json(output / TIMES, step_times(names, 7))
        statistics_shares(7)
    elif not only_print:
        # Seed by seed; what another process trains is looked at again in the end.
        waiting = [(name, seed) for seed in range(seeds) for name in names]
        while waiting:
            left = [one for one in waiting if not run_one(output, *one)]
            if len(left) == len(waiting):
                time.sleep(20)
            waiting = left
    show(output, names, seeds)
    if not only:
        differences(output, seeds)
    if plot is not None:
        draw(output, seeds, plot)


if __name__ == "__main__":
    typer.run(main)
