"""Post-training quantization of the bundled networks: what each step gives back, few bits, and which format is best.

    python benchmarks/post_training.py --output runs/post --only-print
    python benchmarks/post_training.py --output runs/post --part collapse    # or bits, formats; all by default

Every cell is a folder of OUTPUT, made by `training.calibration.quantize`: finished ones are read, ended ones go on, and
several processes may share OUTPUT. Calibration: 8 mini-batches of 64 training images; test: the bundled test images.
AdaRound draws its mini-batches from a seed: mean and 95% t-interval over three; all else has nothing random. "nearest"
and AdaRound are after folding, equalization and absorption unless it says otherwise. Prints test accuracy, and for
formats the rise of the loss on the calibration images beside the angle that `formats rank` sorts by.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).parent))
from hysteresis import interval

from formats.pairs import candidate
from numeric_formats.files import Held
from predictor.effects import check_effects
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import check_minibatches
from predictor.scheme import CURRENT
from predictor.statistics import agreement_of_pairs
from training.calibration import AdaRound, quantize
from workloads import load

NETWORKS = ("mobilenetv2", "resnet20")
PLAIN: dict[str, Any] = {
    "equalize": False,
    "absorb": "off",
    "weight_range": "minmax",
    "activation_range": "minmax",
    "logits_range": None,
}
EIGHT = ("INT8", "FP134", "FP143", "FP125", "E4M3", "BM25", "T8.6x2@1", "MXINT8", "MXFP8-E4M3")
SEVEN = ("INT7", "FP124", "FP133")
SIX = ("INT6", "FP123", "FP132", "BM23", "T6.4x2@1", "MXFP6-E2M3", "MXFP6-E3M2")
SYNTHESIZED = {
    "resnet20": ("profile:8:5x2,6,5x2,4x2,3x2,2x2,1x3",),
    "mobilenetv2": ("profile:8:5x2,6,5x2,4x2,3x2,2x2,1x3",),
}
"""For effect AE of the ResNet-20, by `formats search` (benchmarks/search_resnet20.txt); on MobileNetV2 to see whether
it carries over."""
ROUNDED = ("FP124", "FP133", "MXFP6-E2M3")
"""And what is synthesized: with AdaRound too."""


class Part(StrEnum):
    """What is measured."""

    COLLAPSE = "collapse"
    BITS = "bits"
    FORMATS = "formats"


@dataclass(frozen=True)
class Cell:
    """One setting on one network. random: whether it depends on the seed."""

    part: Part
    network: str
    name: str
    weights: str
    activations: str
    options: tuple[tuple[str, Any], ...]
    random: bool = False

    def folder(self, output: Path, seed: int) -> Path:
        """Where a run lies."""
        words = "".join(
            c if c.isalnum() else "-"
            for c in f"{self.part} {self.network} {self.name} {self.weights} {self.activations}"
        )
        return output / f"{words}-{seed}"


def cell(
    part: Part, network: str, name: str, weights: str, activations: str, adaround: bool = False, **options: Any
) -> Cell:
    """With AdaRound or without."""
    return Cell(part, network, name, weights, activations, tuple({"rank_layers": False, **options}.items()), adaround)


def eight(network: str, name: str, adaround: bool = False, **options: Any) -> Cell:
    """W8A8."""
    return cell(Part.COLLAPSE, network, name, "INT8", "INT8", adaround, **options)


def cells() -> Iterator[Cell]:
    """All of them, in the order of the tables."""
    no_ranges = {key: value for key, value in PLAIN.items() if not key.endswith("_range")}
    for network in NETWORKS:
        yield eight(network, "nothing: min-max ranges, one scale a tensor", **PLAIN)
        yield eight(network, "ranges of the least squared error", **no_ranges)
        yield eight(network, "bias correction, analytic", **no_ranges, bias_correction="analytic")
        yield eight(network, "bias correction, empirical", **no_ranges, bias_correction="empirical")
        yield eight(network, "equalization", absorb="off")
        yield eight(network, "equalization, ReLU for ReLU6", absorb="off", relu6="replace")
        yield eight(network, "equalization, absorption")
        yield eight(network, "equalization, absorption, bias correction", bias_correction="empirical")
        yield eight(network, "AdaRound alone", adaround=True, **no_ranges)
        yield eight(network, "the whole pipeline: equalization, absorption, AdaRound", adaround=True)
        yield eight(network, "min-max, a scale a channel", **PLAIN, per_channel=True)
        for weights in ("INT4", "INT3"):
            for scale, options in (("tensor", {}), ("channel", {"per_channel": True})):
                for name in ("nearest", "AdaRound") if scale == "tensor" else ("nearest",):
                    yield cell(
                        Part.BITS,
                        network,
                        f"one scale a {scale}, {name}",
                        weights,
                        "INT8",
                        name == "AdaRound",
                        **options,
                    )
        for format in (*EIGHT, *SYNTHESIZED[network], *SEVEN, *SIX):
            yield cell(Part.FORMATS, network, "nearest", format, format)
        for format in (*ROUNDED, *SYNTHESIZED[network]):
            yield cell(Part.FORMATS, network, "AdaRound", format, format, adaround=True)


def seeds_of(entry: Cell, seeds: int) -> range:
    """One where nothing is random."""
    return range(seeds if entry.random else 1)


def run_one(output: Path, entry: Cell, seed: int) -> bool:
    """Measure what is not measured yet; False where another process does."""
    folder = entry.folder(output, seed)
    if (folder / "result.json").exists():
        return True
    began = time.monotonic()
    try:
        adaround = AdaRound() if entry.random else None
        found = quantize(
            load(entry.network),
            entry.weights,
            entry.activations,
            adaround=adaround,
            seed=seed,
            output=folder,
            resume=True,
            **dict(entry.options),
        )
    except Held:
        return False
    print(
        f"{time.strftime('%H:%M:%S')} {folder.name}: {found.steps[-1].metric:.4f}, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return True


def steps_of(output: Path, entry: Cell, seeds: int) -> list[list[dict[str, Any]]]:
    """The steps of each finished run."""
    folders = [entry.folder(output, seed) / "result.json" for seed in seeds_of(entry, seeds)]
    return [json.loads(path.read_text())["steps"] for path in folders if path.exists()]


def accuracy(runs: list[list[dict[str, Any]]]) -> str:
    """In percent, with an interval where there are several runs."""
    return interval([100 * steps[-1]["metric"] for steps in runs], digits=2) if runs else "-"


def angles_of(network: str, names: list[str], minibatches: int) -> dict[str, float]:
    """Mean angle of A in degrees, from the store where it is there."""
    workload = load(network)
    batches = check_minibatches(workload, minibatches, None)
    total = dict.fromkeys(names, 0.0)
    with Store.open() as store:
        measuring = Measuring(workload, scheme=CURRENT, store=store)
        for found in measuring.measured([candidate(name) for name in names], batches, check_effects(["A"])):
            total[names[found.format]] += found.angle() / minibatches
    return total


def show(output: Path, parts: list[Part], seeds: int, minibatches: int) -> None:
    """Print the tables."""
    entries = list(cells())
    print(
        f"Accuracy of 2,000 test images in percent; of AdaRound the mean and 95% interval of {seeds} seeds, "
        "nothing else is random."
    )
    for network in NETWORKS:
        own = [entry for entry in entries if entry.network == network]
        done = [runs for entry in own if (runs := steps_of(output, entry, seeds))]
        if not done:
            continue
        full = done[0][0][0]
        print(f"\n{network}: {100 * full['metric']:.2f}% in float32")
        if Part.COLLAPSE in parts:
            print(f"\n  W8A8{'':55} accuracy")
            for entry in own:
                if entry.part is Part.COLLAPSE:
                    print(f"  {entry.name:58} {accuracy(steps_of(output, entry, seeds)):>16}")
        if Part.BITS in parts:
            print(f"\n  {'':36} {'W4A8':>16} {'W3A8':>16}")
            names = list(dict.fromkeys(entry.name for entry in own if entry.part is Part.BITS))
            for name in names:
                both = [
                    accuracy(steps_of(output, entry, seeds))
                    for entry in own
                    if entry.part is Part.BITS and entry.name == name
                ]
                print(f"  {name:36} {both[0]:>16} {both[1]:>16}")
        if Part.FORMATS in parts:
            nearest = [
                entry
                for entry in own
                if entry.part is Part.FORMATS and entry.name == "nearest" and steps_of(output, entry, seeds)
            ]
            rounded = {entry.weights: entry for entry in own if entry.part is Part.FORMATS and entry.name == "AdaRound"}
            angles = angles_of(network, [entry.weights for entry in nearest], minibatches)
            rises = {entry.weights: steps_of(output, entry, seeds)[0][-1]["loss"] - full["loss"] for entry in nearest}
            print(
                f"\n  {'weights and activations':40} {'accuracy':>8} {'AdaRound':>16} {'loss rises by':>13} "
                f"{'angle of A':>10}"
            )
            for entry in nearest:
                name = entry.weights
                ada = accuracy(steps_of(output, rounded[name], seeds)) if name in rounded else ""
                print(
                    f"  {name:40} {accuracy(steps_of(output, entry, seeds)):>8} {ada:>16} {rises[name]:13.4f} "
                    f"{angles[name]:10.2f}"
                )
            if len(nearest) > 2:
                order = [entry.weights for entry in nearest]
                rise, angle = (np.array([numbers[name] for name in order]) for numbers in (rises, angles))
                found = agreement_of_pairs(rise, angle)
                print(
                    f"  rank correlation of the loss's rise with the angle: {found.spearman:.2f} "
                    f"({found.spearman_low:.2f} to {found.spearman_high:.2f}, {len(order)} formats)"
                )


def main(
    output: Annotated[Path, typer.Option(help="folder of the runs")],
    part: Annotated[
        list[Part] | None, typer.Option(help="collapse, bits or formats; may be repeated; default all")
    ] = None,
    seeds: Annotated[int, typer.Option(help="of AdaRound")] = 3,
    minibatches: Annotated[int, typer.Option(help="for the angles")] = 8,
    threads: Annotated[int, typer.Option(help="threads of this process")] = 1,
    only_print: Annotated[bool, typer.Option(help="measure nothing but angles")] = False,
) -> None:
    """Measure what is not measured yet, then print the tables."""
    torch.set_num_threads(threads)
    parts = part or list(Part)
    if not only_print:
        # Seed by seed, what has nothing random first; what another process makes is looked at again in the end.
        chosen = [entry for entry in cells() if entry.part in parts]
        waiting = [(entry, seed) for entry in chosen if not entry.random for seed in (0,)]
        waiting += [(entry, seed) for seed in range(seeds) for entry in chosen if entry.random]
        while waiting:
            left = [one for one in waiting if not run_one(output, *one)]
            if len(left) == len(waiting):
                time.sleep(20)
            waiting = left
    show(output, parts, seeds, minibatches)


if __name__ == "__main__":
    typer.run(main)
