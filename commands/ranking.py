"""Commands that rank formats and compare rankings: rank, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from commands.early import check_measured, check_products, check_results
from commands.errors import INTERRUPTED
from commands.options import (
    MODEL_HELP,
    BatchSizeOption,
    BitsOption,
    ClusterOption,
    ComparedOption,
    CostOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    ExactOption,
    FamilyOption,
    ForceOption,
    JsonOption,
    MaxBinadesOption,
    OutputOption,
    PointsOption,
    ProductsOption,
    RankingArgument,
    SchemeOfPointsOption,
    StoreOption,
    TopOption,
    TwoTermsOption,
    WeightsOption,
    WithinOption,
    WorkersOption,
    command_line,
    duration,
    share,
    size_in_bytes,
    split,
)
from commands.printing import say, say_json
from commands.progress import tell_of_compiling
from commands.session import kept, measuring_session
from commands.unfinished import tell_of_unfinished

if TYPE_CHECKING:
    import pandas as pd

    from search.across import Across
    from search.settings import RankingSettings
    from search.table import Ranking


LEADERS, LEADERS_OF_LINE = 10, 3
"""How many formats are shown while a ranking goes on: on a terminal, and in a log."""


class Asked(TypedDict):
    """Arguments of a ranking, which its plan does not have."""

    by: str | None
    time_budget: float | None
    seconds: float | None
    with_cost: bool
    products: int
    calibration: pd.DataFrame | None


class Planned(TypedDict):
    """Arguments of a ranking, which its plan has too."""

    points: str
    effects: list[str] | None
    minibatches: int | None
    batch_size: int | None
    exhaustive: bool
    exact: Sequence[str]
    scheme: str | None
    two_terms: bool
    memory: int | None


def rank(
    model: Annotated[
        list[str],
        typer.Option("--model", "-m", help=f"{MODEL_HELP}; several give one ranking over all"),
    ],
    data: DataOption = None,
    weights: WeightsOption = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            "-f",
            help="comma-separated names, or files (.py, .toml) that define formats, instead of the whole catalogue",
        ),
    ] = None,
    bits: BitsOption = None,
    family: FamilyOption = None,
    max_binades: MaxBinadesOption = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="rank every format with each of these: "
            "headroom=1,2,3, scale=floor,rceil or block=16,32 (may be repeated)",
        ),
    ] = None,
    points: PointsOption = "dataflow",
    effects: Annotated[
        str | None,
        typer.Option(
            help="comma-separated: E (errors), A (activations), AE (both); where all are measured W (weights), WAE "
            "(all three); default: the one that --by names; for at most 24 formats E,A,AE; at operands WAE, all six "
            "of them"
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="the effect that orders the table; default: AE, which tells best how formats train; at operands WAE"
        ),
    ] = None,
    minibatches: Annotated[
        int | None,
        typer.Option(
            help="mini-batches that angles are averaged over; "
            "default: 16, 4 for at most 24 formats, with --exhaustive all"
        ),
    ] = None,
    batch_size: BatchSizeOption = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="measure every format, not only the promising ones")
    ] = False,
    time_budget: Annotated[
        float | None, typer.Option(help="seconds after which measuring stops with what it has")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            help="such as 90s, 5m or 1h: measure by the best policy that ends in that time, loading left out; where "
            "all formats are measured it stops then",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            help="such as 4G or 800M: of each process that measures; a mini-batch that takes more is split into "
            "micro-batches, whose gradients are summed",
        ),
    ] = None,
    cost: CostOption = False,
    products: ProductsOption = None,
    within: WithinOption = "1%",
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            "--calibration", help="runs.csv of `formats validate`, whose trainings tell the gap too (may be repeated)"
        ),
    ] = None,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = True,
    dry_run: DryRunOption = False,
    exact: ExactOption = None,
    scheme: SchemeOfPointsOption = None,
    two_terms: TwoTermsOption = True,
    top: TopOption = 20,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Rank formats by how little they turn a pretrained network's weight gradient.

    The noise of every format is read from one full-precision pass; a few that stand for all are measured, the promising
    ones race on more and more mini-batches, and the rest are predicted (marked ~) with intervals that held-out formats
    have confirmed. Every exact measurement is kept, so that Ctrl-C, a larger budget or one more format cost nothing
    twice.

    angle: by how many degrees rounding turns the gradient. projection: how much of the gradient's length is left along
    its own direction. bias (in the file): what does not average out over mini-batches, as a share of the gradient's own
    noise. gap: by how much the final loss will be above that of float32, told from the angle of the effect
    that orders the table by trainings of several networks; formats whose gap is at most --within stand above the line.

    With several models, formats are ordered by their mean rank, beside the largest angle that they have on any.

    --time 5m measures as much as there is time for, as replays on networks of which everything is known found best; the
    result says by which policy. --dry-run says what 1, 5 and 30 minutes would give.

    --points operands ranks formats in the place of all six operands of each product, as recipes round them.

    Examples: formats rank --model resnet18 --output ranking.csv · formats rank -m resnet18 --time 5m ·
    formats rank -m transformer --points operands ·
    formats rank -m mine.py:net --bits 8 --exhaustive --minibatches 16 · formats rank -m timm:resnet18 --data
    imagefolder:photos --weights mine.pth · formats rank -m hf:gpt2 --data text:book.txt · formats rank -m resnet18 -m
    resnet20 -o both.csv · formats rank -m resnet20 -f FP134,BM43 --sweep headroom=1,2 --sweep scale=floor,rceil
    """
    began = monotonic()
    check_measured(model, split(formats or ""), effects, scheme, points)
    check_products(products, cost)
    from formats.hardware.totals import PRODUCTS
    from predictor.device import on_device
    from predictor.keeping import matching
    from reports import results
    from reports.tables import rankings as tables
    from reports.validation import read_calibration
    from reports.verdicts import verdict
    from search.across import rank_across
    from search.candidates import choose_and_tell
    from search.planning import plan
    from search.ranking import rank as rank_formats
    from search.scale_axes import parse_axes
    from search.scale_axes import sweep as sweep_scales
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force, command_line())
    seconds = None if time is None else duration("--time", time)
    as_good, trainings = share("--within", within), read_calibration(calibration or ())
    chosen, doubles = choose_and_tell(None if formats is None else split(formats), bits, family, max_binades)
    say(*doubles)
    if sweep:
        chosen = sweep_scales(chosen, parse_axes(sweep))
    workloads = {name: on_device(load(name, data, weights), device) for name in model}
    planned: Planned = {
        "points": points,
        "effects": None if effects is None else split(effects),
        "minibatches": minibatches,
        "batch_size": batch_size,
        "exhaustive": exhaustive,
        "exact": matching(next(iter(workloads.values())).model, exact or ()),
        "scheme": scheme,
        "two_terms": two_terms,
        "memory": None if memory is None else size_in_bytes("--memory", memory),
    }
    if dry_run:
        tell_of_compiling()
        for name, workload in workloads.items():
            say(*tables.plan(name, plan(workload, chosen, by=by, **planned)))
        return
    again = "the same command goes on from there"
    found: Ranking[RankingSettings] | Across

    def keep(result: Ranking[RankingSettings] | Across) -> None:
        if output is not None:
            settings = result.settings.as_dict()
            told = {"command": command_line(), "verdict": verdict(result.table, settings, as_good)}
            results.write(result.table, output, settings | told)

    with measuring_session(workers, cluster, store, device) as measuring:

        def so_far(name: str, ranking: Ranking[RankingSettings]) -> None:
            leaders = tables.leading(name, ranking, LEADERS), tables.leading_line(name, ranking, LEADERS_OF_LINE)
            measuring["progress"].lead(*leaders)

        def one_so_far(ranking: Ranking[RankingSettings]) -> None:
            so_far(model[0], ranking)
            keep(ranking)

        def across_so_far(across: Across) -> None:
            so_far(*list(across.rankings.items())[-1])
            keep(across)

        asked: Asked = {
            "by": by,
            "time_budget": time_budget,
            "seconds": seconds,
            "with_cost": cost,
            "products": products or PRODUCTS,
            "calibration": trainings,
        }
        if len(workloads) > 1:
            found = across = rank_across(workloads, chosen, **planned, **asked, so_far=across_so_far, **measuring)
            parts = tables.across(across, top, len(workloads), kept(measuring, again))
            interrupted = time_budget is None and seconds is None
        else:
            [(name, workload)] = workloads.items()
            found = ranking = rank_formats(
                workload, chosen, **planned, **asked, yardsticks=True, so_far=one_so_far, **measuring
            )
            parts = tables.ranking(name, ranking, top, kept(measuring, again), as_good, monotonic() - began)
            interrupted = not ranking.settings.budget_spent
    say(*parts)
    if output is not None:
        keep(found)
        say(f"wrote {output} and {results.sidecar_of(output)}; formats report {output} makes a page of them")
    if interrupted and not found.complete:
        raise typer.Exit(INTERRUPTED)


def compare(
    first: RankingArgument,
    second: Annotated[
        Path, typer.Argument(help="another one, such as of a later checkpoint, another seed or other data")
    ],
    effect: ComparedOption = None,
    top: Annotated[int, typer.Option(min=1, help="rows of each table to print")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Say how stable a ranking is: rank correlations of two, with 95% bootstrap intervals, changed places, and what the
    first few have in common.

    Examples: formats compare epoch10.csv epoch100.csv · formats compare seed0.csv seed1.csv --effect E --json
    """
    check_results(first, second)
    from reports import comparison
    from reports.tables import rankings as tables

    tell_of_unfinished(first, second)
    found = comparison.compare(first, second, effect)
    if as_json:
        say_json(comparison.facts(found))
    else:
        say(*tables.comparison(found, top, f"{first}, then {second}: angle of {found.effect}"))
