"""One ranking over several networks: which format serves all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from formats.hardware.totals import PRODUCTS
from formats.pairs import Candidate
from numeric_formats.progress import Report, quiet
from predictor.columns import (
    ANGLE,
    COSTS,
    DESCRIBED,
    HIGH,
    LOW,
    MEAN_RANK,
    NAME,
    RANK,
    SOURCE,
    WORST,
    WORST_ON,
    N,
    angle_column,
    on_network,
)
from predictor.effects import Points
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import check_minibatches
from predictor.scheme import Scheme, rules_at
from search.candidates import choose
from search.planning import RankingOptions
from search.ranking import SoFar, rank_chosen
from search.settings import AcrossSettings, RankingSettings
from search.table import Ranking
from workloads.workload import Workload

PARTS = (ANGLE, LOW, HIGH, N, SOURCE)


@dataclass(frozen=True)
class Across:
    """Rankings of the same formats on several networks, and what comes out of them.

    Attributes:
        table: A row per format, best first: rank (by mean_rank; equal ones share it), what describes it, mean_rank
            (over networks), angle_worst (degrees; of the network, in the column worst_on, that it serves least), its
            low, high, n and source; then for every network rank@NAME and the angles of every effect as
            angle_EFFECT@NAME and so on.
        rankings: By network; networks behind an interrupt are left out.
        complete: False where an interrupt or the budget ended one early.
        settings: What orders the table, and the settings of every ranking.
    """

    table: pd.DataFrame
    rankings: dict[str, Ranking[RankingSettings]]
    complete: bool
    settings: AcrossSettings


def tabulate_across(rankings: Mapping[str, pd.DataFrame], by: str) -> pd.DataFrame:
    """The table of `Across` from the tables of rankings of the same formats by one effect."""
    aligned = {model: table.set_index(NAME) for model, table in rankings.items()}
    first = next(iter(aligned.values()))
    aligned = {model: table.loc[first.index] for model, table in aligned.items()}
    ranks = pd.DataFrame({model: table[RANK] for model, table in aligned.items()})
    angles = pd.DataFrame({model: table[angle_column(by)] for model, table in aligned.items()})
    # Of a format without any angle, which an early end leaves, the first network's.
    worst = angles.fillna(-1.0).idxmax(axis=1)
    columns: dict[str, Any] = {key: first[key] for key in DESCRIBED if key != NAME}
    columns[MEAN_RANK] = ranks.mean(axis=1)
    columns[WORST_ON] = worst
    for part in PARTS:
        columns[f"{part}_{WORST}"] = [aligned[str(model)].at[name, f"{part}_{by}"] for name, model in worst.items()]
    for model, table in aligned.items():
        kept = [column for column in table.columns if column.partition("_")[0] in PARTS or column == RANK]
        columns |= {on_network(column, model): table[column] for column in kept}
    columns |= {name: first[name] for name in COSTS if name in first.columns}
    made = pd.DataFrame(columns, index=first.index).sort_values([MEAN_RANK, angle_column(WORST)], kind="stable")
    made.insert(0, RANK, made[MEAN_RANK].rank(method="min").astype(int))
    made.insert(1, NAME, made.index)
    return made.reset_index(drop=True)


def rank_across(
    workloads: Mapping[str, Workload],
    candidates: Sequence[str | Candidate] | None = None,
    *,
    points: Points | str = Points.DATAFLOW,
    effects: Iterable[str] | None = None,
    by: str | None = None,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exhaustive: bool = False,
    time_budget: float | None = None,
    seconds: float | None = None,
    exact: Sequence[str] = (),
    scheme: Scheme | str | None = None,
    two_terms: bool = True,
    with_cost: bool = False,
    products: int = PRODUCTS,
    calibration: pd.DataFrame | None = None,
    memory: int | None = None,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Report = quiet,
    so_far: Callable[[Across], None] | None = None,
) -> Across:
    """Rank formats on several networks, one after the other, each as `rank` does; what the store holds is not measured
    again.

    An interrupt ends the ranking at hand, and those behind it are not begun. Arguments that are not described here are
    those of `rank`.

    Args:
        workloads: What is measured, by the name that columns get.
        time_budget: Seconds for all networks, in equal shares, like seconds.
        so_far: Is given the ranking over the networks so far after each stage of each.

    Returns:
        The ranking over all, and that of each network.

    Raises:
        ValueError: No workload, and what `rank` raises.
    """
    if not workloads:
        raise ValueError("no workload was given")
    chosen = choose(candidates)
    for workload in workloads.values():  # before the first is measured
        check_minibatches(workload, minibatches, batch_size)
    budget, planned = (None if given is None else given / len(workloads) for given in (time_budget, seconds))
    at, rules = rules_at(points, scheme, two_terms)
    wanted = None if effects is None else tuple(effects)
    options = RankingOptions(
        wanted,
        by,
        minibatches,
        batch_size,
        exhaustive,
        budget,
        with_cost,
        calibration,
        points=at,
        seconds=planned,
        products=products,
        memory=memory,
    )
    found: dict[str, Ranking[RankingSettings]] = {}

    def tell(name: str) -> SoFar | None:
        return None if so_far is None else lambda ranking: so_far(_across(found | {name: ranking}, chosen, False))

    for name, workload in workloads.items():
        measuring = Measuring(workload, tuple(exact), rules, store, executor or InProcess(), progress, points=at)
        try:
            found[name] = rank_chosen(measuring, chosen, options, tell(name))
        except KeyboardInterrupt:
            if not found:
                raise
            break
        ended = not found[name].complete and not found[name].settings.budget_spent
        if ended:
            break
    complete = len(found) == len(workloads) and all(ranking.complete for ranking in found.values())
    return _across(found, chosen, complete)


def _across(found: dict[str, Ranking[RankingSettings]], chosen: Sequence[Candidate], complete: bool) -> Across:
    """One ranking from those of networks, in their order."""
    order = next(iter(found.values())).by
    settings = AcrossSettings(
        by=WORST,
        effect=order,
        complete=complete,
        formats={entry.name: entry.digest for entry in chosen},
        models={name: ranking.settings for name, ranking in found.items()},
    )
    table = tabulate_across({name: ranking.table for name, ranking in found.items()}, order)
    return Across(table, found, complete, settings)
