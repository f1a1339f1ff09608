"""One ranking over several networks: which format serves all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from formats.pairs import Candidate
from predictor.measuring.units import check_minibatches
from search.candidates import choose
from search.stages import rank
from search.table import Ranking
from workloads.workload import Workload

WORST = "worst"
"""Stands where an effect does, in the columns of the largest angle over networks."""
DESCRIBED = ("name", "bits", "family", "granularity", "profile", "binades")
PARTS = ("angle", "low", "high", "n", "source")


@dataclass(frozen=True)
class Across:
    """Rankings of the same formats on several networks, and what comes out of them.

    table: a row per format, best first: rank (by mean_rank; equal ones share it), what describes it, mean_rank (over
    networks), angle_worst (degrees; of the network, in the column worst_on, that it serves least), its low, high, n and
    source; then for every network rank@NAME and the angles of every effect as angle_EFFECT@NAME and so on. rankings: by
    network. complete: False where an interrupt or the budget ended one early; networks behind an interrupt are left
    out. settings: by, and those of every ranking.
    """

    table: pd.DataFrame
    rankings: dict[str, Ranking]
    complete: bool
    settings: dict[str, Any]


def tabulate(rankings: Mapping[str, pd.DataFrame], by: str) -> pd.DataFrame:
    """The table of `Across` from the tables of rankings of the same formats by one effect."""
    aligned = {model: table.set_index("name") for model, table in rankings.items()}
    first = next(iter(aligned.values()))
    aligned = {model: table.loc[first.index] for model, table in aligned.items()}
    ranks = pd.DataFrame({model: table["rank"] for model, table in aligned.items()})
    angles = pd.DataFrame({model: table[f"angle_{by}"] for model, table in aligned.items()})
    # Of a format without any angle, which an early end leaves, the first network's.
    worst = angles.fillna(-1.0).idxmax(axis=1)
    columns: dict[str, Any] = {key: first[key] for key in DESCRIBED if key != "name"}
    columns["mean_rank"] = ranks.mean(axis=1)
    columns["worst_on"] = worst
    for part in PARTS:
        columns[f"{part}_{WORST}"] = [aligned[str(model)].at[name, f"{part}_{by}"] for name, model in worst.items()]
    for model, table in aligned.items():
        kept = [column for column in table.columns if column.partition("_")[0] in PARTS or column == "rank"]
        columns |= {f"{column}@{model}": table[column] for column in kept}
    if "gates" in first.columns:
        columns["gates"] = first["gates"]
    made = pd.DataFrame(columns, index=first.index).sort_values(["mean_rank", f"angle_{WORST}"], kind="stable")
    made.insert(0, "rank", made["mean_rank"].rank(method="min").astype(int))
    made.insert(1, "name", made.index)
    return made.reset_index(drop=True)


def rank_across(
    workloads: Mapping[str, Workload],
    candidates: Sequence[str | Candidate] | None = None,
    *,
    time_budget: float | None = None,
    **options: Any,
) -> Across:
    """Rank formats on several networks, one after the other, each as `rank` does with `options`; what the store holds
    is not measured again.

    workloads: by the name that columns get. time_budget: seconds for all of them, in equal shares. An interrupt ends
    the ranking at hand, and those behind it are not begun. Raises ValueError for no workload, and what `rank` raises.
    """
    if not workloads:
        raise ValueError("no workload was given")
    chosen = choose(candidates)
    for workload in workloads.values():  # before the first is measured
        check_minibatches(workload, options.get("minibatches"), options.get("batch_size"))
    share = None if time_budget is None else time_budget / len(workloads)
    found: dict[str, Ranking] = {}
    for name, workload in workloads.items():
        try:
            found[name] = rank(workload, chosen, time_budget=share, **options)
        except KeyboardInterrupt:
            if not found:
                raise
            break
        ended = not found[name].complete and (share is None or found[name].settings["seconds"] < share)
        if ended:
            break
    by = next(iter(found.values())).by
    complete = len(found) == len(workloads) and all(ranking.complete for ranking in found.values())
    settings = {
        "by": WORST,
        "effect": by.value,
        "complete": complete,
        "formats": {entry.name: entry.digest for entry in chosen},
        "models": {
            name: {key: value for key, value in ranking.settings.items() if key != "formats"}
            for name, ranking in found.items()
        },
    }
    return Across(
        tabulate({name: ranking.table for name, ranking in found.items()}, by.value), found, complete, settings
    )
