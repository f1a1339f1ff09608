"""Commands that rank formats: rank, search, fit, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from commands.errors import INTERRUPTED
from commands.options import (
    MODEL_HELP,
    BatchSizeOption,
    BitsOption,
    ClusterOption,
    ComparedOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    EffectsOption,
    ExactOption,
    FamilyOption,
    FittedOption,
    ForceOption,
    HeadroomOption,
    JsonOption,
    MaxBinadesOption,
    MaxPrecisionsOption,
    MaxRunsOption,
    MinibatchesOption,
    ModelOption,
    OutputOption,
    PassesOption,
    RankingArgument,
    SchemeOption,
    ShapeOption,
    StoreOption,
    TopOption,
    TwoTermsOption,
    WeightsOption,
    WidthOption,
    WorkersOption,
    command_line,
    numbers,
    split,
)
from commands.printing import say, say_json
from commands.session import kept, measuring_session

if TYPE_CHECKING:
    from search.across import Across
    from search.settings import RankingSettings
    from search.table import Ranking


class Planned(TypedDict):
    """Arguments of a ranking, which its plan has too."""

    effects: list[str]
    minibatches: int | None
    batch_size: int | None
    exhaustive: bool
    exact: Sequence[str]
    scheme: str
    two_terms: bool


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
    effects: EffectsOption = "E,A,AE",
    by: Annotated[str | None, typer.Option(help="the effect that orders the table; default: AE")] = None,
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
    cost: Annotated[
        bool, typer.Option("--cost", help="add the gates of a multiply-accumulate lane to the table")
    ] = False,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = True,
    dry_run: DryRunOption = False,
    exact: ExactOption = None,
    scheme: SchemeOption = "paper",
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

    With several models, formats are ordered by their mean rank, beside the largest angle that they have on any.

    Examples: formats rank --model resnet18 --output ranking.csv · formats rank -m mine.py:net --bits 8 --exhaustive
    --minibatches 16 · formats rank -m timm:resnet18 --data imagefolder:photos --weights mine.pth · formats rank -m
    hf:gpt2 --data text:book.txt · formats rank -m resnet18 -m resnet20 -o both.csv · formats rank -m resnet20 -f
    FP134,BM43 --sweep headroom=1,2 --sweep scale=floor,rceil
    """
    from predictor.device import on_device
    from predictor.scheme import scheme_of
    from reports import results
    from reports.tables import rankings as tables
    from search.across import rank_across
    from search.candidates import choose
    from search.planning import plan
    from search.scale_axes import parse_axes
    from search.scale_axes import sweep as sweep_scales
    from search.stages import rank as rank_formats
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    chosen = choose(None if formats is None else split(formats), bits, family, max_binades)
    if sweep:
        chosen = sweep_scales(chosen, parse_axes(sweep), scheme_of(scheme))
    workloads = {name: on_device(load(name, data, weights), device) for name in model}
    planned: Planned = {
        "effects": split(effects),
        "minibatches": minibatches,
        "batch_size": batch_size,
        "exhaustive": exhaustive,
        "exact": exact or (),
        "scheme": scheme,
        "two_terms": two_terms,
    }
    if dry_run:
        say(*(tables.plan(name, plan(workload, chosen, **planned)) for name, workload in workloads.items()))
        return
    forced = " with --force" if output is not None and not force else ""
    again = f"the same command{forced} goes on from there"
    found: Ranking[RankingSettings] | Across
    with measuring_session(workers, cluster, store, device) as measuring:
        if len(workloads) > 1:
            found = across = rank_across(
                workloads, chosen, **planned, by=by, time_budget=time_budget, with_cost=cost, **measuring
            )
            parts = tables.across(across, top, len(workloads), kept(measuring, again))
            interrupted = time_budget is None
        else:
            [(name, workload)] = workloads.items()
            found = ranking = rank_formats(
                workload, chosen, **planned, by=by, time_budget=time_budget, with_cost=cost, **measuring
            )
            parts = tables.ranking(name, ranking, top, kept(measuring, again))
            interrupted = not ranking.settings.budget_spent
    say(*parts)
    if output is not None:
        results.write(found.table, output, found.settings.as_dict() | {"command": command_line()})
        say(f"wrote {output} and {results.sidecar_of(output)}")
    if interrupted and not found.complete:
        raise typer.Exit(INTERRUPTED)


def search(
    model: ModelOption,
    data: DataOption = None,
    weights: WeightsOption = None,
    bits: WidthOption = 8,
    effects: FittedOption = "E,A,AE",
    max_binades: MaxBinadesOption = None,
    shape: ShapeOption = "any",
    max_precisions: MaxPrecisionsOption = None,
    max_runs: MaxRunsOption = None,
    headroom: Annotated[
        str | None,
        typer.Option(help="comma-separated: binades that may be left free; default: what the scheme leaves, or 0,1"),
    ] = None,
    best: Annotated[int, typer.Option(help="formats to synthesize for each effect, and pairs for AE")] = 3,
    noise_passes: PassesOption = 1,
    minibatches: MinibatchesOption = None,
    batch_size: BatchSizeOption = None,
    exact: ExactOption = None,
    scheme: SchemeOption = "paper",
    two_terms: TwoTermsOption = True,
    average_bits: Annotated[
        float | None,
        typer.Option(help="a format for each layer instead, of at most so many bits on average; nothing is measured"),
    ] = None,
    widths: Annotated[str, typer.Option(help="with --average-bits: the widths that a layer may have")] = "4,5,6,7,8",
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto",
            help="add the gates of each format's lane, and which formats no other beats in both angle and gates",
        ),
    ] = False,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = True,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Find the best formats for a network among all precision profiles, and measure them beside the best known ones.

    How much each tensor counts comes from a few known formats that are measured first.

    The names that it prints can be used wherever a format's name can. With --average-bits, the last of --effects
    decides.

    Examples: formats search --model resnet18 · formats search -m torchvision:resnet50 --data imagefolder:photos
    --weights mine.pth · formats search -m mine.py:net --bits 6 --shape unimodal --max-runs 4 -o found.csv
    """
    from predictor.device import on_device
    from reports import results
    from reports.tables import searches as tables
    from search.knapsack import Constraints
    from search.layers import search_layers
    from search.tailored import search as search_formats
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    wanted = split(effects)
    constraints = Constraints(
        max_binades, shape, max_precisions, max_runs, None if headroom is None else numbers("--headroom", headroom)
    )
    workload, complete = on_device(load(model, data, weights), device), True
    with measuring_session(workers, cluster, store, device) as measuring:
        if average_bits is not None:
            table, layers = search_layers(
                workload,
                average_bits,
                widths=numbers("--widths", widths),
                effect=wanted[-1] if wanted else "",
                constraints=constraints,
                passes=noise_passes,
                batch_size=batch_size,
                exact=exact or (),
                scheme=scheme,
                two_terms=two_terms,
                **measuring,
            )
            parts, settings = [tables.layers(model, table, layers)], layers.as_dict()
        else:
            found = search_formats(
                workload,
                bits,
                effects=wanted,
                constraints=constraints,
                best=best,
                passes=noise_passes,
                minibatches=minibatches,
                batch_size=batch_size,
                exact=exact or (),
                scheme=scheme,
                two_terms=two_terms,
                with_cost=pareto,
                **measuring,
            )
            parts, settings = tables.search(model, found, kept(measuring)), found.settings.as_dict()
            table, complete = found.table, found.complete
    say(*parts)
    if output is not None:
        results.write(table, output, settings)
        say(f"wrote {output} and {results.sidecar_of(output)}")
    if not complete:
        raise typer.Exit(INTERRUPTED)


def fit(
    file: Annotated[Path, typer.Argument(help="an .npz, .npy or .safetensors file; each array in it is a tensor")],
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            "-f",
            help="comma-separated names, or files (.py, .toml) that define formats, instead of the catalogue of --bits",
        ),
    ] = None,
    bits: WidthOption = 8,
    max_binades: MaxBinadesOption = None,
    shape: ShapeOption = "any",
    max_precisions: MaxPrecisionsOption = None,
    max_runs: MaxRunsOption = None,
    headroom: HeadroomOption = "0,1",
    top: TopOption = 20,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Rank formats by the noise that they add to dumped tensors, beside the best profile for these tensors. No model is
    needed.

    Noise is the noise-to-signal ratio |Q(t) - t|^2 / |t|^2; formats are ordered by its mean over tensors.

    Examples: formats fit tensors.npz · formats fit gradients.safetensors --bits 6 --top 5
    """
    from reports import results
    from reports.tables import searches as tables
    from search.fitting import fit as fit_formats
    from search.fitting import read_dump
    from search.knapsack import Constraints

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    constraints = Constraints(max_binades, shape, max_precisions, max_runs, numbers("--headroom", headroom))
    names = None if formats is None else split(formats)
    dump = read_dump(file)
    found = fit_formats(dump.tensors, names, bits, constraints)
    say(*tables.fit(str(file), found, bits, top), *tables.dump(dump))
    if output is not None:
        settings = {
            "file": str(file),
            "formats": names,
            "bits": bits,
            "tensors": found.tensors,
            "zero": found.zero,
            "ignored": found.ignored,
        }
        results.write(found.table, output, settings)
        say(f"wrote {output} and {results.sidecar_of(output)}")


def compare(
    first: RankingArgument,
    second: Annotated[
        Path, typer.Argument(help="another one, such as of a later checkpoint, another seed or other data")
    ],
    effect: ComparedOption = "AE",
    top: Annotated[int, typer.Option(min=1, help="rows of each table to print")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Say how stable a ranking is: rank correlations of two, with 95% bootstrap intervals, changed places, and what the
    first few have in common.

    Examples: formats compare epoch10.csv epoch100.csv · formats compare seed0.csv seed1.csv --effect E --json
    """
    from reports import comparison
    from reports.tables import rankings as tables

    found = comparison.compare(first, second, effect)
    if as_json:
        say_json(comparison.facts(found))
    else:
        say(*tables.comparison(found, top, f"{first}, then {second}: angle of {effect}"))
