"""The fast ranking against the truth: every format measured on every mini-batch (benchmarks/exhaustive.py).

    python benchmarks/ranking.py resnet20 benchmarks/exhaustive_resnet20.parquet
    python benchmarks/ranking.py cifar10 benchmarks/exhaustive_cifar10.parquet --weights WEIGHTS.pt --images IMAGES.zip

Ranks with an empty store on the 16 mini-batches of 64 of the truth and compares: rank correlation over all formats
beside the truth's own split-half reliability (even against odd mini-batches), the winner's regret, the first ten, and
how many intervals of formats that were not measured everywhere hold the true mean. Prints each, and exits with 1 where
one falls short.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from exhaustive import BATCH, chosen_workload
from scipy import stats

from predictor.effects import DEFAULT_EFFECTS
from predictor.statistics import interval
from search import rank

PLACES = 10


def main(
    model: Annotated[str, typer.Argument(help="a bundled network, or cifar10")],
    truth: Annotated[Path, typer.Argument(help="what exhaustive.py wrote", exists=True)],
    weights: Annotated[Path | None, typer.Option(help="state dict of the CIFAR-10 ResNet-20")] = None,
    images: Annotated[Path | None, typer.Option(help="CIFAR-10 as JPEG files in a zip archive")] = None,
) -> None:
    """Compare."""
    exact = pd.read_parquet(truth)
    minibatches = exact.minibatch.nunique()
    workload = chosen_workload(model, minibatches, weights, images)
    found = rank(
        workload,
        effects=DEFAULT_EFFECTS,
        scheme="current",
        minibatches=minibatches,
        batch_size=BATCH if callable(workload.batches) else None,
    )
    table, settings = found.table, found.settings
    print(f"{model}: {len(table)} formats, {minibatches} mini-batches of {BATCH}; {settings.seconds:.0f} s")
    print(
        f"gradients: {settings.gradients}, exhaustive {settings.exhaustive_gradients}; measured by "
        f"{found.by}: {settings.measured} formats"
    )
    passed = True
    for effect in settings.effects:
        angles = (
            exact[exact.effect == effect].pivot(index="format", columns="minibatch", values="angle").loc[table.name]
        )
        mean = angles.mean(axis=1).to_numpy()
        halves = [angles.iloc[:, half::2].mean(axis=1) for half in (0, 1)]
        reliability = stats.spearmanr(*halves)[0]
        correlation = stats.spearmanr(table[f"angle_{effect}"], mean)[0]
        partly = (table[f"n_{effect}"] < minibatches).to_numpy()
        inside = ((table[f"low_{effect}"] <= mean) & (mean <= table[f"high_{effect}"]))[partly].mean()
        half = ((table[f"high_{effect}"] - table[f"low_{effect}"]) / 2 / table[f"angle_{effect}"])[partly].median()
        print(
            f"{effect:2} Spearman {correlation:.4f} (truth's split halves {reliability:.4f}); intervals hold "
            f"{inside:.1%} of {partly.sum()}, "
            f"median half-width {half:.0%}"
        )
        if effect != found.by:
            continue
        passed &= correlation >= min(0.98, reliability - 0.01) and inside >= 0.9
        order = np.argsort(mean, kind="stable")
        best, tenth = angles.iloc[order[0]], angles.iloc[order[PLACES - 1]]
        regret, low, high = interval((angles.iloc[0] - best).to_numpy())
        print(
            f"   winner {table.name[0]}, true winner {best.name}: regret {regret:.3f} degrees [{low:.3f}, "
            f"{high:.3f}]; said at most {settings.regret_at_most:.3f}"
        )
        tied = [
            name
            for place, name in enumerate(angles.index[order])
            if place < PLACES or interval((angles.loc[name] - tenth).to_numpy())[1] <= 0
        ]
        first = list(table.name[:PLACES])
        strictly = len(set(first) & set(angles.index[order[:PLACES]]))
        hits = len(set(first) & set(tied))
        print(
            f"   of the first {PLACES}, {strictly} are in the true first {PLACES}, {hits} counting the "
            f"{len(tied)} that tie with its last: {', '.join(first)}"
        )
        passed &= regret <= settings.regret_at_most and hits >= 8
    print("all as promised" if passed else "SOMETHING FALLS SHORT")
    raise typer.Exit(not passed)


if __name__ == "__main__":
    typer.run(main)
