"""The best format of each network and effect: every format of the catalogue on every bundled network, by E, A and AE.

    python benchmarks/best_formats.py --output runs/best               # ranks what is not ranked yet, then prints the table
    python benchmarks/best_formats.py --output runs/best --only-print

Rankings are those of `formats rank --by EFFECT`, one CSV each; measurements are kept in the store, so that a run that was ended goes on. Prints for each
network and effect the first format with its angle and 95% interval, how many others share its rank, and FP134's angle and rank; then
the format with the best mean rank over all networks (`search.across`).
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from reports import results
from search.across import tabulate
from search.rank import rank
from search.store import Store
from workloads import load
from workloads.bundled import BUNDLED

EFFECTS = ("E", "A", "AE")
REFERENCE = "FP134"


def ranking(output: Path, network: str, effect: str) -> pd.DataFrame | None:
    """The table of a finished ranking."""
    path = output / f"{network}-{effect}.csv"
    return pd.read_csv(path) if path.exists() else None


def angle(row: "pd.Series[float]", effect: str) -> str:
    """Angle and the larger half of its interval."""
    middle, low, high = (row[f"{kind}_{effect}"] for kind in ("angle", "low", "high"))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main(
    output: Annotated[Path, typer.Option(help="folder of the rankings")],
    network: Annotated[list[str] | None, typer.Option(help="a bundled network; may be repeated; default all")] = None,
    only_print: Annotated[bool, typer.Option(help="rank nothing")] = False,
) -> None:
    """Rank what is not ranked yet, then print the tables."""
    networks = network or list(BUNDLED)
    if not only_print:
        with Store.open() as store:
            for name in networks:
                workload = load(name)
                for effect in EFFECTS:
                    if ranking(output, name, effect) is None:
                        found = rank(workload, effects=[effect], by=effect, store=store)
                        results.write(found.table, output / f"{name}-{effect}.csv", found.settings)
                        print(f"{name}, {effect}: {found.table.name[0]}", flush=True)
    print(
        f"{'network':14} {'effect':6} {'best':10} {'angle, 95%':>24} {'tied':>5} {REFERENCE:>24} {'rank':>5}   ({torch.get_num_threads()} threads)"
    )
    for effect in EFFECTS:
        for name in networks:
            table = ranking(output, name, effect)
            if table is None:
                continue
            first, own = table.iloc[0], table[table.name == REFERENCE].iloc[0]
            tied = int((table["rank"] == 1).sum()) - 1
            print(
                f"{name:14} {effect:6} {first['name']:10} {angle(first, effect):>24} {tied:5} {angle(own, effect):>24} {own['rank']:5.0f}"
            )
        done = {name: table for name in networks if (table := ranking(output, name, effect)) is not None}
        if len(done) > 1:
            best = tabulate(done, effect)
            print(best.head(5).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)
