"""Does the prediction predict? Formats that were chosen before any training are trained on four networks.

    python benchmarks/validation.py choose                       writes benchmarks/validation/formats.txt, once
    python benchmarks/validation.py train resnet20 --seeds 4     adds to benchmarks/validation/resnet20.csv
    python benchmarks/validation.py measure resnet20             writes benchmarks/validation/resnet20_indicators.csv
    python benchmarks/validation.py table                        sets one against the other, for networks that have both
    python benchmarks/validation.py calibrate                    writes predictor/trainings.csv, for `formats rank`

Every format rounds activations and errors by the default scheme; weights, gradients and master weights are float32, so
that what is trained is what is measured. A training is a folder of --runs and goes on where it was ended; a row is
written once it is finished, seed by seed. Several processes share the work. Settings, and why:
docs/results/prediction.md.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from formats import get
from numeric_formats.files import Held, hold
from predictor import measure as measure_angles
from predictor import risk
from predictor.effects import Effect
from predictor.gradient.gradients import Gradients
from predictor.gradient.noise import Kind, observe
from predictor.scheme import CURRENT, PAPER, Scheme
from predictor.statistics import agreement, rank_correlations, reliability, resamples
from reports import results
from training import train
from training.result import Outcome
from training.validation import spread
from workloads import Workload, load

HERE = Path(__file__).parent / "validation"
FORMATS = HERE / "formats.txt"
NAMED = (
    *("INT8", "INT7", "INT6", "FP125", "FP134", "FP143", "FP152", "FP133", "FP123", "FP132"),
    *("BM43", "BM24", "MXFP8-E4M3", "MXFP6-E2M3"),
)
"""Trained whatever their places are."""
SPREAD = 10
"""Formats from all over the ranking beside them."""
FULL = "float32"
PLAIN = dict.fromkeys(("activation", "error", "weight", "gradient", "master"), FULL)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    minibatches: of the training set, taken from its beginning.
    warmup: steps in which the rate rises.
    characters: of a text's windows, from their beginning; None for all 64.
    """

    epochs: int
    batch_size: int
    minibatches: int
    rate: float
    optimizer: str = "sgd"
    weight_decay: float = 5e-4
    warmup: int = 0
    characters: int | None = None


RECIPES = {
    "resnet20": Recipe(8, 32, 40, rate=0.1, warmup=40),
    "mobilenetv2": Recipe(8, 32, 40, rate=0.1, warmup=40),
    "lstm": Recipe(6, 32, 40, rate=1e-2, optimizer="adamw", weight_decay=0.0, warmup=40, characters=32),
    "transformer": Recipe(8, 32, 40, rate=3e-3, optimizer="adamw", weight_decay=0.0, warmup=40),
}

app = typer.Typer(add_completion=False)


@app.command()
def choose(ranking: Annotated[Path, typer.Option(help="of `formats rank -m resnet20`", exists=True)]) -> None:
    """Write down which formats are trained."""
    table = results.read(ranking)
    others = table[~table["name"].isin(NAMED)]
    HERE.mkdir(exist_ok=True)
    with FORMATS.open("x") as file:  # never again
        file.write("\n".join((*NAMED, *spread(others, SPREAD, "AE"))) + "\n")
    print(FORMATS.read_text())


def workload_of(network: str) -> Workload:
    """A network with as much of its training data as the recipe has."""
    of = RECIPES[network]
    workload = load(network)
    batches = replace(workload, batches=workload.train).minibatches(of.batch_size)[: of.minibatches]
    assert len(batches) == of.minibatches
    if of.characters is not None:
        batches = [tuple(symbols[:, : of.characters] for symbols in batch) for batch in batches]
    return replace(workload, train=batches)


def one(workload: Workload, network: str, name: str, seed: int, output: Path, **given: Any) -> dict[str, object]:
    """The row of one training of a network as its recipe has it. given: what else `train` takes."""
    of, began = RECIPES[network], time.monotonic()
    found = train(
        workload,
        **given,
        epochs=of.epochs,
        optimizer=of.optimizer,
        rate=of.rate,
        weight_decay=of.weight_decay,
        warmup=of.warmup,
        metric_every=of.epochs,
        seed=seed,
        output=output / f"{name.replace('/', '_')}-{seed}",
        resume=True,
    )
    losses = found.epochs["loss"].tolist()
    finished = found.outcome is Outcome.FINISHED
    return {
        "network": network,
        "name": name,
        "seed": seed,
        "outcome": found.outcome.value,
        "loss": losses[-1] if finished else float("inf"),
        "metric": found.metric,
        "losses": " ".join(f"{loss:.6g}" for loss in losses),
        "seconds": round(time.monotonic() - began, 1),
    }


def add(path: Path, workload: Workload, network: str, name: str, seed: int, output: Path, **given: Any) -> None:
    """Make a training and add its row to a file, unless it is there or another process is at it."""
    known = pd.read_csv(path) if path.exists() else pd.DataFrame({"name": [], "seed": []})
    if ((known["name"] == name) & (known["seed"] == seed)).any():
        return
    try:
        row = one(workload, network, name, seed, output, **given)
    except Held:
        return
    write(row, path)
    print(*(row[key] for key in ("network", "name", "seed", "loss", "metric", "seconds")), flush=True)


def write(row: dict[str, object], path: Path) -> None:
    """Add a row, once, whatever other processes do."""
    while True:
        try:
            with hold(path.parent / f".{path.stem}"):
                known = pd.read_csv(path) if path.exists() else pd.DataFrame()
                table = pd.concat([known, pd.DataFrame([row])]).drop_duplicates(["name", "seed"])
                table.sort_values(["seed", "name"]).to_csv(path.with_suffix(".new"), index=False)
                os.replace(path.with_suffix(".new"), path)
            return
        except Held:
            time.sleep(0.1)


@app.command("train")
def train_all(
    network: str,
    seeds: int = 4,
    runs: Path = Path("runs/validation"),
    formats: Annotated[str, typer.Option(help="comma-separated, instead of formats.txt")] = "",
) -> None:
    """Train every format from every seed."""
    torch.set_num_threads(1)
    names = [FULL, *(formats.split(",") if formats else FORMATS.read_text().split())]
    path = HERE / f"{network}.csv"
    HERE.mkdir(exist_ok=True)
    workload = workload_of(network)
    for seed in range(seeds):
        for name in names:
            add(path, workload, network, name, seed, runs / network, **PLAIN | {"activation": name, "error": name})


@app.command()
def measure(network: str, minibatches: int = 8) -> None:
    """Measure everything that might predict, on the pretrained network."""
    names, workload, found = FORMATS.read_text().split(), load(network), {}
    for label, scheme in (("paper", PAPER), ("current", CURRENT), ("3 binades", Scheme(headroom=3))):
        table = measure_angles(
            *(workload, names, ["E"] if scheme.headroom == 3 else ["E", "A", "AE", "E|A"], minibatches),
            batch_size=RECIPES[network].batch_size,
            scopes=["all", "first"],
            scheme=scheme,
        ).set_index("format")
        for (effect, scope), part in table.groupby(["effect", "scope"]):
            rows = part.loc[names]
            found[f"angle {effect}, {scope}, {label}"] = rows["angle"]
            if scope == "all" and label == "paper":
                found |= {
                    f"projection {effect}": (rows["projection"] - 1).abs(),
                    f"bias {effect}": rows["bias"],
                    f"loss {effect}": rows["loss"],
                }
    chosen = [get(name) for name in names]
    with Gradients(workload, workload.minibatches(RECIPES[network].batch_size)[0]) as gradients:
        noise = observe(gradients, chosen)
    for kind in Kind:
        found[f"noise of {kind}"] = noise.ratios(chosen)[:, noise.rows(kind)].sum(1)
    pd.DataFrame(found, index=pd.Index(names, name="name")).to_csv(HERE / f"{network}_indicators.csv")


def training_gaps(path: Path) -> pd.DataFrame:
    """Every training of a file whose seed float32 was trained from too, with its gap."""
    runs = pd.read_csv(path)
    full = runs[runs["name"] == FULL].set_index("seed")["loss"]
    runs = runs[(runs["name"] != FULL) & runs["seed"].isin(full.index)]
    return runs.assign(gap=runs["loss"].to_numpy() / full.loc[runs["seed"]].to_numpy() - 1)


def gaps(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """A row per name, a column per seed that all of them have."""
    return training_gaps(path).pivot(index="name", columns="seed", values="gap").reindex(names).dropna(axis=1)


def print_agreements(measured: pd.DataFrame, by_seed: pd.DataFrame) -> int:
    """How well each column orders the gaps, the best first; how many there are."""
    print(f"  {'indicator':28} {'Spearman':>8}  95%               {'Kendall':>7}  95%")
    losses = [row.tolist() for row in by_seed.to_numpy()]
    scores = {
        name: agreement(measured.loc[by_seed.index, name], losses) for name in measured if measured[name].nunique() > 1
    }
    for name, of in sorted(scores.items(), key=lambda entry: -entry[1].spearman):
        print(
            f"  {name:28} {of.spearman:8.3f}  {of.spearman_low:6.3f} to {of.spearman_high:6.3f}  "
            f"{of.kendall:7.3f}  {of.kendall_low:6.3f} to {of.kendall_high:6.3f}"
        )
    return len(scores)


def held_by_seeds(trainings: pd.DataFrame, effect: Effect, name: str, count: int) -> float:
    """The share of a network's trainings, of all seeds, that the first seeds of all other networks hold."""
    own = trainings["network"] == name
    return float(risk.coverage(trainings[own | (trainings["seed"] < count)], effect)[name])


@app.command()
def calibrate() -> None:
    """Write the trainings that `predictor.risk` comes with, and print how well it holds a network that is left out."""
    found = []
    for network in RECIPES:
        indicators = HERE / f"{network}_indicators.csv"
        if not (indicators.exists() and (HERE / f"{network}.csv").exists()):
            continue
        measured = pd.read_csv(indicators, index_col="name")
        angles = {f"angle_{effect}": measured[f"angle {effect}, all, paper"].round(4) for effect in ("E", "A", "AE")}
        rows = training_gaps(HERE / f"{network}.csv")[["network", "name", "seed", "gap"]].round(6)
        found.append(rows.join(pd.DataFrame(angles), on="name"))
    trainings = pd.concat(found)
    trainings.to_csv(Path(risk.__file__).with_name("trainings.csv"), index=False)
    for effect in (Effect.E, Effect.AE, Effect.A):
        of = risk.risk_of(trainings, effect)
        print(f"angle of {effect}: {of.sentence}")
        print("  gap    at an angle of [degrees]")
        for gap in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
            print(f"  {gap:4.0%} {of.angle_within(gap):10.2f}")
        if len(of.networks) < 3:
            continue
        for count in range(2, trainings["seed"].nunique() + 1):
            held = {name: held_by_seeds(trainings, effect, name, count) for name in of.networks}
            said = ", ".join(f"{name} {share:.1%}" for name, share in held.items())
            print(f"  held by the intervals of the first {count} seeds of all others: {said}")


def print_lead(found: dict[str, tuple[pd.DataFrame, pd.DataFrame]], first: str, second: str) -> None:
    """By how much one indicator's Spearman is above another's, on each network and in the mean; the same formats are
    drawn on all of them."""
    means, drawn = {}, {}
    for network, (measured, by_seed) in found.items():
        x, y = (measured.loc[by_seed.index, name].to_numpy() for name in (first, second))
        losses = list(by_seed.to_numpy())

        def lead(formats: np.ndarray, gaps: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> float:
            return rank_correlations(x[formats], gaps)[0] - rank_correlations(y[formats], gaps)[0]

        means[network] = lead(np.arange(len(losses)), by_seed.to_numpy().mean(1))
        drawn[network] = [lead(formats, gaps) for formats, gaps in resamples(losses, 0)]
    low, high = np.quantile(np.mean(list(drawn.values()), axis=0), [0.025, 0.975])
    each = ", ".join(f"{network} {mean:+.3f}" for network, mean in means.items())
    whole = float(np.mean(list(means.values())))
    print(f"Spearman of {first} less that of {second}: {each}; mean {whole:+.3f}, {low:+.3f} to {high:+.3f}")


@app.command()
def table() -> None:
    """How well each indicator orders the gaps of each network."""
    found = {}
    for network in RECIPES:
        indicators, runs = HERE / f"{network}_indicators.csv", HERE / f"{network}.csv"
        if not (indicators.exists() and runs.exists()):
            continue
        measured, by_seed = pd.read_csv(indicators, index_col="name"), gaps(runs, FORMATS.read_text().split())
        if not by_seed.shape[1]:
            continue
        kept = reliability(by_seed.to_numpy())
        print(
            f"{network}: {len(by_seed)} formats, {by_seed.shape[1]} seeds; reliability of their mean {kept:.3f}, ",
            end="",
        )
        print(f"so at most {np.sqrt(kept):.3f}" if kept > 0 else "no ceiling")
        looks = print_agreements(measured, by_seed)
        print(f"  {looks} looks: a 95% interval of the best of them is that of 1 - 0.05/{looks}")
        found[network] = measured, by_seed
    print_lead(found, "angle AE, all, paper", "angle E, all, paper")


if __name__ == "__main__":
    app()
