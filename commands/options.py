"""Options and arguments that several commands share."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

# The network.
MODEL_HELP = (
    "resnet18, resnet20, mobilenetv2, lstm, transformer, detector, torchvision:NAME, timm:NAME, hf:NAME, "
    "package.module:function or file.py:function"
)
ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="of a public network: imagefolder:PATH, cifar10[:PATH] or cifar100[:PATH]; of a language model "
        "text[@LENGTH]:PATH or tokens[@LENGTH]:FILE.npy, in sequences of LENGTH tokens (default: 128); "
        "pairs[@LENGTH]:PATH, text for an encoder with a contrastive loss",
        metavar="KIND:PATH",
    ),
]
WEIGHTS_HELP = (
    "of a public network: a local file (.pth, .pt, .safetensors; for hf also .gguf, or a folder) instead of the public "
    "weights"
)
WeightsOption = Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)]
BatchSizeOption = Annotated[int | None, typer.Option(help="examples a mini-batch; default: the workload's")]
DeviceOption = Annotated[str, typer.Option(help="where the network runs: cpu, cuda (the first GPU), cuda:1, ...")]

# The formats.
BitsOption = Annotated[int | None, typer.Option(help="only formats of this width: 8, 7 or 6")]
FamilyOption = Annotated[str | None, typer.Option(help="only this family: INT, FP, tapered or BM")]
MaxBinadesOption = Annotated[int | None, typer.Option(help="only formats of at most this many binades")]

# What it means for training.
WithinOption = Annotated[
    str, typer.Option(help="how much larger a final loss may be and still count as good as float32's")
]

# What is measured, and by whom.
PointsOption = Annotated[
    str,
    typer.Option(
        help="where numbers are rounded: dataflow, at the output of every operation; operands, those of the products "
        "of layers with weights alone, as FP8, MX and NVFP4 recipes do",
    ),
]
EffectsOption = Annotated[
    str | None,
    typer.Option(
        help="comma-separated: E (errors), A (activations), AE (both); by request W (weights), WAE (all three); "
        "default: E,A,AE; at operands WAE, all six of them"
    ),
]
MinibatchesOption = Annotated[
    int | None, typer.Option(help="mini-batches that all formats share; default: 8, or all where there are fewer")
]
ExactOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exact",
        help="keep this layer, and all inside it, in full precision: a name or a pattern such as 'layer1.*.conv2' "
        "(may be repeated)",
        metavar="LAYER",
    ),
]
HeadOption = Annotated[
    bool, typer.Option("--head/--exact-head", help="whether a recipe changes the network's last product too")
]
SCHEME_HELP = (
    "by which tensors are rounded, in training as in measuring: paper (scales leave one binade free), current (none) "
    "or authors (as the paper's own code); parts that differ may follow, as in paper,branches=yes (they are in "
    "docs/definitions/training.md)"
)
SchemeOption = Annotated[str, typer.Option(help=SCHEME_HELP, metavar="NAME[,PART=VALUE]...")]
SchemeOfPointsOption = Annotated[
    str | None,
    typer.Option(
        "--scheme",
        help=f"{SCHEME_HELP}; default: paper; at operands there is none, and formats are rounded as their names say",
        metavar="NAME[,PART=VALUE]...",
    ),
]
TwoTermsOption = Annotated[
    bool, typer.Option("--two-terms/--one-term", help="round inputs and last errors in two terms")
]
WorkersOption = Annotated[int | None, typer.Option(help="measure in this many processes, which share the cores")]
ClusterOption = Annotated[str | None, typer.Option(help="measure on a Ray cluster: auto, or its address as HOST:PORT")]
StoreOption = Annotated[
    bool, typer.Option("--store/--no-store", help="find and keep exact measurements in the user's cache")
]
CostOption = Annotated[
    bool, typer.Option("--cost", help="add gates, energy and bytes of a multiply-accumulate to the table")
]
ProductsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="of costs: products of a sum, and uses of a weight; what is needed once in so many counts by this share; "
        "default: 512",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="say what would be done and how long it takes, then stop")
]

# What formats are made.
WidthOption = Annotated[int, typer.Option("--bits", help="width of the formats that are searched: 2 to 8")]
FittedOption = Annotated[str, typer.Option("--effects", help="comma-separated: E (errors), A (activations), AE (both)")]
ShapeOption = Annotated[
    str, typer.Option(help="how precision may go from the top down: any, unimodal or non-increasing")
]
MaxPrecisionsOption = Annotated[
    int | None, typer.Option(help="synthesize at most this many different precisions in a format")
]
MaxRunsOption = Annotated[
    int | None, typer.Option(help="synthesize at most this many runs of equal precision in a format")
]
HeadroomOption = Annotated[
    str, typer.Option(help="comma-separated: binades that may be left free above the largest magnitude")
]
PassesOption = Annotated[int, typer.Option("--noise-passes", help="mini-batches whose tensors the synthesis sees")]

# Training.
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="instead of formats: how products are computed (`formats recipes list`), FILE.toml, or a format for all "
        "operands",
        metavar="NAME",
    ),
]
KeptOption = Annotated[
    str | None,
    typer.Option(
        help="with --recipe: layers that stay in bfloat16, between commas as `formats recipes --keep` prints them",
        metavar="LAYERS",
    ),
]
EpochsOption = Annotated[int, typer.Option(help="passes over the training mini-batches")]
OptimizerOption = Annotated[
    str | None, typer.Option(help="sgd or adamw; default: adamw for networks with attention, else sgd")
]
RateOption = Annotated[
    float | None, typer.Option(help="the largest learning rate; default: 0.1 of sgd, 0.001 of adamw")
]
WeightRoundingOption = Annotated[
    str, typer.Option(help="nearest, stochastic (whose weights never settle) or hysteresis")
]
HysteresisEpochsOption = Annotated[
    int | None, typer.Option(help="after so many epochs weights are rounded to nearest; default: never", metavar="N")
]
DampeningOption = Annotated[
    str | None,
    typer.Option(
        help="pull master weights toward their rounded values: a strength such as 0.01, or START:END, a cosine",
        metavar="STRENGTH",
    ),
]
FreezingOption = Annotated[
    str | None,
    typer.Option(
        help="fix weights that flip back more often, as a running average of steps: such as 0.02, or START:END",
        metavar="FREQUENCY",
    ),
]
ForceRunOption = Annotated[bool, typer.Option("--force", help="replace an earlier run in --output")]

# Results.
RankingArgument = Annotated[Path, typer.Argument(help="a ranking that `formats rank --output` wrote")]
ComparedOption = Annotated[
    str | None, typer.Option(help="the effect whose angle is compared: E, A or AE; default: E where it is there")
]
TopOption = Annotated[int, typer.Option(min=1, help="rows of the table to print")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="write .csv, .json or .parquet, and a .meta.json beside it")
]
ForceOption = Annotated[bool, typer.Option("--force", help="replace an existing output")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def split(text: str) -> list[str]:
    """Names between commas; the commas inside a written-out profile or BM<e,m> stay."""
    parts: list[str] = []
    for piece in text.split(","):
        last = parts[-1] if parts else ""
        inside = last.lower().rpartition("+")[2].startswith("profile:") and piece[:1].isdigit()
        if inside or ("<" in last and ">" not in last):
            parts[-1] += "," + piece
        else:
            parts.append(piece.strip())
    return [part for part in parts if part]


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    try:
        return tuple(int(part) for part in split(text))
    except ValueError:
        raise ValueError(f"{option} {text!r}: whole numbers between commas are needed") from None


def command_line() -> str:
    """The command that was given, as a shell takes it."""
    import shlex

    return shlex.join(["formats", *sys.argv[1:]])


def share(option: str, text: str) -> float:
    """A share such as 2% or 0.02; ValueError for anything else."""
    number = text.strip()
    try:
        found = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise ValueError(f"{option} {text}: a share such as 2% or 0.02 is needed")
    return found


def duration(option: str, text: str) -> float:
    """A time such as 90s, 5m or 1h in seconds; ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"{option} {text}: a time such as 90s, 5m or 1h is needed")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def size_in_bytes(option: str, text: str) -> int:
    """A size such as 800M or 4G (or 4GB, 4GiB) in bytes, of 1024; ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MG])(?:i?B)?", text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"{option} {text}: a size such as 800M or 4G is needed")
    return int(float(found[1]) * {"M": 1 << 20, "G": 1 << 30}[found[2]])


def inches(option: str, text: str | None) -> float | None:
    """A width such as 3.4in, 86mm or 8.6cm in inches; ValueError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(in|mm|cm)", text.strip())
    wide = float(found[1]) / {"in": 1.0, "mm": 25.4, "cm": 2.54}[found[2]] if found else 0.0
    if not 1 <= wide <= 40:
        raise ValueError(f"{option} {text}: a width from 1in to 40in such as 3.4in, 86mm or 8.6cm is needed")
    return wide
