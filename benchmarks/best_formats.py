"""The best format of each network and effect: every format of the catalogue on every bundled network, by E, A and AE.

    python benchmarks/best_formats.py --output runs/best               # ranks what is not ranked yet, then prints all
    python benchmarks/best_formats.py --output runs/best --only-print

Rankings are those of `formats rank --by EFFECT`, one CSV each; measurements are kept in the store, so that a run that
was ended goes on. Prints for each effect and network the first format with its angle and 95% interval, how many share
its rank, the first with one scale a tensor, and FP134 with its rank; the minifloats and INT8; then the formats with the
best mean rank over all networks (`search.across`) and FP134, with the largest angle over networks and the rank on each.
"""

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from predictor.measuring.store import Store
from reports import results
from search.across import WORST, tabulate_across
from search.ranking import rank
from workloads import load
from workloads.bundled.networks import BUNDLED

EFFECTS = ("E", "A", "AE")
REFERENCE = "FP134"
PLAIN = ("FP125", "FP134", "FP143", "FP152", "INT8")
SHOWN = 6


def ranking(output: Path, network: str, effect: str) -> pd.DataFrame | None:
    """The table of a finished ranking."""
    path = output / f"{network}-{effect}.csv"
    return pd.read_csv(path) if path.exists() else None


def described(row: "pd.Series[Any]", effect: str) -> str:
    """Name, angle and interval."""
    middle, low, high = (row[f"{kind}_{effect}"] for kind in ("angle", "low", "high"))
    return f"{row['name']:9} {middle:5.2f} [{low:5.2f}, {high:5.2f}]"


def show(rankings: dict[str, pd.DataFrame], effect: str) -> None:
    """Print the tables of an effect."""
    print(
        f"\n{effect:14} {'first of all':31} {'tied':>4}   {'first with one scale a tensor':31}   {REFERENCE:31} "
        f"{'rank':>4}"
    )
    for network, table in rankings.items():
        first, scaled, reference = (
            table.iloc[0],
            table[table.granularity == "tensor"].iloc[0],
            table[table.name == REFERENCE].iloc[0],
        )
        tied = int((table["rank"] == 1).sum()) - 1
        ends = f"{described(scaled, effect):31}   {described(reference, effect):31} {reference['rank']:4.0f}"
        print(f"{network:14} {described(first, effect):31} {tied:4}   {ends}")
    print(f"\n{'angle (rank)':14}" + "".join(f"{name:>13}" for name in PLAIN))
    for network, table in rankings.items():
        rows = table.set_index("name").loc[list(PLAIN)]
        print(
            f"{network:14}"
            + "".join(f"{row[f'angle_{effect}']:7.2f} ({row['rank']:3.0f})" for _, row in rows.iterrows())
        )
    if len(rankings) > 1:
        across = tabulate_across(rankings, effect)
        print(f"\n{'all networks':14} {'mean rank':>9} {'largest angle':>13}   rank on {', '.join(rankings)}")
        for _, row in (
            pd.concat([across.head(SHOWN), across[across.name == REFERENCE]]).drop_duplicates("name").iterrows()
        ):
            ranks = " ".join(f"{row[f'rank@{network}']:4.0f}" for network in rankings)
            print(f"{row['name']:14} {row.mean_rank:9.1f} {row[f'angle_{WORST}']:13.2f}   {ranks}")


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
                        results.write(found.table, output / f"{name}-{effect}.csv", found.settings.as_dict())
                        print(f"{name}, {effect}: {found.table.name[0]}", flush=True)
    for effect in EFFECTS:
        if rankings := {name: table for name in networks if (table := ranking(output, name, effect)) is not None}:
            show(rankings, effect)


if __name__ == "__main__":
    typer.run(main)
