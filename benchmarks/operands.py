"""The fast ranking at operands against the truth: some 60 formats, all mini-batches.

    python benchmarks/operands.py --minibatches 2 > benchmarks/operands.txt

Every eighth format of the catalogue and those with a name are ranked with `points="operands"`, by screen and race, and
measured whole on the bundled transformer. Printed are the winner's regret, the first ten, the rank correlation, of what
was only predicted too, and how many intervals of formats that were not measured everywhere hold the true mean.
Measurements are kept in the user's store, so that it goes on where it was ended. Exits with 1 where one falls short.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import stats

import formats
from predictor.columns import NAME, angle_column, high_column, low_column, n_column
from predictor.effects import Effect, Points
from predictor.measuring.store import Store
from search import rank
from workloads import load

HERE = Path(__file__).parent
STEP = 8
NAMED = ("INT8", "INT7", "INT6", "FP125", "FP134", "FP143", "FP152", "FP133", "FP124", "FP142", "FP123", "FP132")
PLACES = 10


def against_trainings() -> None:
    """Which angle orders the trainings of data flow on this network: that of data flow, or that at operands."""
    losses = pd.read_csv(HERE / "validation" / "transformer.csv").groupby("name")["loss"].mean()
    flow = pd.read_csv(HERE / "validation" / "transformer_indicators.csv").set_index("name")["angle E, all, paper"]
    operands = pd.read_csv(HERE / "transformer_ranking_operands.csv").set_index(NAME)[angle_column(Effect.WAE)]
    common = [name for name in losses.index if name in flow.index and name in operands.index]
    for what, angles in (("E in data flow", flow), ("WAE at operands", operands)):
        print(f"trainings of data flow, {len(common)} formats: Spearman of the loss with {what} ", end="")
        print(f"{stats.spearmanr(angles[common], losses[common])[0]:.3f}")


def main(minibatches: Annotated[int, typer.Option(help="of the truth and of the race")] = 16) -> None:
    """Compare."""
    names = dict.fromkeys([*(each.name for each in formats.catalogue()[::STEP]), *NAMED])
    workload = load("transformer")
    with Store.open() as store:
        fast = rank(workload, list(names), points=Points.OPERANDS, minibatches=minibatches, store=store)
        whole = rank(
            workload, list(names), points=Points.OPERANDS, minibatches=minibatches, exhaustive=True, store=store
        )
    angle, low, high, n = (column(Effect.WAE) for column in (angle_column, low_column, high_column, n_column))
    truth = whole.table.set_index(NAME)[angle]
    found = fast.table.set_index(NAME)
    mean = truth.loc[found.index]
    partly = found[n] < minibatches
    only = found[n] == 0
    inside = ((found[low] <= mean) & (mean <= found[high]))[partly].mean()
    regret = float(mean.iloc[0] - truth.iloc[0])
    first, best = list(found.index[:PLACES]), list(truth.index[:PLACES])
    correlation = stats.spearmanr(found[angle], mean)[0]
    print(f"transformer, points operands: {len(names)} formats, {minibatches} mini-batches")
    print(f"gradients: {fast.settings.gradients}, of {fast.settings.exhaustive_gradients} that measure all")
    print(f"winner {first[0]}, true winner {best[0]}: regret {regret:.4f} degrees of {truth.iloc[0]:.3f}")
    print(f"said at most {fast.settings.regret_at_most:.4f}")
    print(f"of the true first {PLACES}: {len(set(first) & set(best))}; first: {', '.join(first)}")
    of_predicted = stats.spearmanr(found[angle][only], mean[only])[0]
    print(f"Spearman {correlation:.4f} over all, {of_predicted:.4f} over the {only.sum()} that were predicted")
    print(f"intervals hold {inside:.1%} of {int(partly.sum())} that were not measured on all mini-batches")
    median = np.median(np.abs(found[angle][only] / mean[only] - 1))
    print(f"predicted only: {int(only.sum())}, median error {median:.1%}")
    for name, value in truth.items():
        row = found.loc[name]
        print(f"  {name:16} true {value:8.3f}   found {row[angle]:8.3f} [{row[low]:.3f}, {row[high]:.3f}] n={row[n]}")
    against_trainings()
    if correlation < 0.98 or inside < 0.9 or regret > 0.1:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
