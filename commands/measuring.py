"""Commands that measure angles: points, measure, attribute, keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.early import check_measured, check_products
from commands.errors import INTERRUPTED
from commands.options import (
    BatchSizeOption,
    ClusterOption,
    CostOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    EffectsOption,
    ExactOption,
    ForceOption,
    MinibatchesOption,
    ModelOption,
    OutputOption,
    PointsOption,
    ProductsOption,
    SchemeOfPointsOption,
    SchemeOption,
    StoreOption,
    TwoTermsOption,
    WeightsOption,
    WorkersOption,
    command_line,
    split,
)
from commands.printing import say
from commands.progress import progress_shown, tell_of_compiling
from commands.session import measuring_session

if TYPE_CHECKING:
    import pandas as pd

    from formats.pairs import Candidate


def points(
    model: ModelOption,
    data: DataOption = None,
    weights: WeightsOption = None,
    exact: ExactOption = None,
    tensors: Annotated[
        Path | None,
        typer.Option(
            help="write the activations and errors of a mini-batch to this .npz, for `formats plot` and `formats fit`"
        ),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="with --tensors: only of this layer (may be repeated)")
    ] = None,
    batch_size: BatchSizeOption = None,
    long: Annotated[bool, typer.Option("--long", help="a row for each point, also where layers are equal")] = False,
    force: ForceOption = False,
) -> None:
    """List where a model's data flow is quantized, what has no point, and what is kept exact, equal layers in one row;
    or write the tensors that are there.

    Examples: formats points --model resnet18 · formats points -m resnet20 --tensors dump.npz --layer conv1 --layer fc
    · formats points -m hf:gpt2 --data text:book.txt
    """
    check_measured([model], [])
    from predictor.keeping import matching
    from predictor.listing import list_points
    from predictor.recording import record, write
    from reports import results
    from reports.tables.points import tables_of
    from workloads import load

    if layer and tensors is None:
        raise ValueError("--layer chooses what --tensors writes")
    if tensors is not None:
        results.check_output(tensors, (".npz",), force)
    workload = load(model, data, weights)
    if tensors is not None:
        found = record(workload, layer or (), batch_size)
        write(found, tensors)
        say(f"wrote {len(found)} tensors to {tensors}")
        return
    say(*tables_of(model, *list_points(workload, matching(workload.model, exact or ()), batch_size), long))


def measure(
    model: ModelOption,
    formats: Annotated[str, typer.Option("--formats", "-f", help="comma-separated names; ACTIVATION+ERROR is a pair")],
    data: DataOption = None,
    weights: WeightsOption = None,
    points: PointsOption = "dataflow",
    effects: EffectsOption = None,
    minibatches: MinibatchesOption = None,
    batch_size: BatchSizeOption = None,
    scope: Annotated[str, typer.Option(help="all, first, layers, or a parameter's name")] = "all",
    exact: ExactOption = None,
    scheme: SchemeOfPointsOption = None,
    two_terms: TwoTermsOption = True,
    device: DeviceOption = "cpu",
    cost: CostOption = False,
    products: ProductsOption = None,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    store: StoreOption = True,
    long: Annotated[
        bool,
        typer.Option("--long", help="print a row for each format and effect, with projection, bias and loss"),
    ] = False,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Measure the angles of some formats exactly, a row each, beside bfloat16 and a format known to train.

    At operands, A is x, E is dy, W is W, and WAE all six operands: the recipe of that format.

    Examples: formats measure -m resnet18 -f FP134,E4M3/tensor --cost · formats measure -m mine.py:net -f
    E4M3/tensor+E5M2/tensor --scope layers -o layers.csv
    · formats measure -m transformer --points operands -f FP134,MXFP8-E4M3,E4M3/real+E5M2/real
    """
    from formats.pairs import candidate

    check_measured([model], split(formats), effects, scheme, points)
    check_products(products, cost)
    from formats.hardware.totals import PRODUCTS
    from numeric_formats.messages import counted
    from predictor import measure as measure_angles
    from predictor.angles import COVERAGE, NOTES
    from predictor.columns import N
    from predictor.device import on_device
    from predictor.effects import DEFAULT_EFFECTS, effects_at
    from predictor.keeping import matching
    from predictor.scheme import rules_at
    from reports import results
    from reports.tables import angles as tables
    from reports.tables.cells import rounded_where
    from search.yardsticks import minibatches_of_yardsticks, yardsticks_of
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force, command_line())
    names, (at, rules) = split(formats), rules_at(points, scheme, two_terms)
    wanted = effects_at(at, None if effects is None else split(effects), DEFAULT_EFFECTS)
    workload = on_device(load(model, data, weights), device)
    with measuring_session(workers, cluster, store, device) as measuring:

        def measured(formats: Sequence[str | Candidate], minibatches: int | None) -> pd.DataFrame:
            return measure_angles(
                workload,
                formats,
                wanted,
                minibatches,
                points=at,
                batch_size=batch_size,
                scopes=[scope],
                exact=matching(workload.model, exact or ()),
                scheme=scheme,
                two_terms=two_terms,
                **measuring,
            )

        found = measured(names, minibatches)
        others = yardsticks_of([candidate(name) for name in names]) if scope == "all" and not long else []
        beside = measured(others, minibatches_of_yardsticks(int(found[N].max()))) if others else None
    said = [*found.attrs[NOTES], *([found.attrs[COVERAGE]] if COVERAGE in found.attrs else [])]
    title = f"{model}: angles over {counted(int(found[N].max()), 'mini-batch')}, {rounded_where(at, rules)}"
    parts = (
        [tables.measurement(found)]
        if long
        else tables.formats_by_effects(found, title, beside, (products or PRODUCTS) if cost else None, at, rules)
    )
    say(*parts, *said)
    if output is not None:
        settings = {
            "workload": model,
            "formats": names,
            "minibatches": minibatches,
            "batch_size": batch_size,
            "yardsticks": [] if beside is None else results.effects_across(beside).to_dict("records"),
            "points": at.value,
            **rules.settings,
        }
        results.write(found, output, settings | {"command": command_line()})
        drawn = {"all": "bars", "layers": "layers"}.get(scope)
        say(f"wrote {output}" + (f"; formats plot {output} --kind {drawn} draws it" if drawn else ""))


def attribute(
    model: ModelOption,
    format: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="a name, or ACTIVATION+ERROR: the first rounds W and A, the second E and G"
        ),
    ],
    data: DataOption = None,
    weights: WeightsOption = None,
    minibatches: Annotated[
        int | None, typer.Option(help="mini-batches; default: 4, or all where there are fewer")
    ] = None,
    batch_size: BatchSizeOption = None,
    dry_run: DryRunOption = False,
    exact: ExactOption = None,
    scheme: SchemeOption = "paper",
    two_terms: TwoTermsOption = True,
    top: Annotated[int, typer.Option(min=1, help="layers to print")] = 20,
    output: OutputOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="draw the kinds and the largest layers as .png, .svg or .pdf")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Say what causes a format's angle: which tensors (W, A, E, G) and which layers, each alone and each left out.

    Ctrl-C keeps the rows that were finished.

    Examples: formats attribute -m resnet20 -f FP134 --plot why.png · formats attribute -m mine.py:net -f
    E4M3/tensor+E5M2/tensor -o why.csv
    """
    check_measured([model], [format], scheme=scheme)
    from predictor.attribution import attribute as attribute_angle
    from predictor.attribution import estimate
    from predictor.keeping import matching
    from reports import results
    from reports.plots import attributions, style
    from reports.tables import angles as tables
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force, command_line())
    if plot is not None:
        results.check_output(plot, style.ENDINGS, force)
    workload = load(model, data, weights)
    kept = matching(workload.model, exact or ())
    if dry_run:
        tell_of_compiling()
        work = estimate(
            workload, format, minibatches, batch_size=batch_size, exact=kept, scheme=scheme, two_terms=two_terms
        )
        say(tables.attribution_estimate(model, work))
        return
    with progress_shown() as show:
        found = attribute_angle(
            workload,
            format,
            minibatches,
            batch_size=batch_size,
            exact=kept,
            scheme=scheme,
            two_terms=two_terms,
            progress=show,
        )
    settings: dict[Any, Any] = found.attrs
    title = f"{model}: what causes the angle of {', '.join(settings['formats'])}"
    say(*tables.attribution(found, top, title))
    if output is not None:
        results.write(found, output, settings | {"command": command_line()})
        say(f"wrote {output} and {results.sidecar_of(output)}; formats plot {output} --kind layers draws it")
    if plot is not None:
        style.save(attributions.attribution(found, title), plot)
        say(f"wrote {plot}")
    if not settings["complete"]:
        raise typer.Exit(INTERRUPTED)


def keep(
    model: ModelOption,
    format: Annotated[str, typer.Option("--format", "-f", help="of all that is not kept: a name, or ACTIVATION+ERROR")],
    layers: Annotated[int | None, typer.Option(min=1, help="how many layers may be kept")] = None,
    target: Annotated[float | None, typer.Option(help="degrees at which to stop")] = None,
    effect: Annotated[
        str, typer.Option(help="whose angle: E, A, AE (by which rankings are ordered) or WAE (weights rounded too)")
    ] = "AE",
    data: DataOption = None,
    weights: WeightsOption = None,
    minibatches: Annotated[
        int | None, typer.Option(help="mini-batches; default: 4, or all where there are fewer")
    ] = None,
    batch_size: BatchSizeOption = None,
    exact: ExactOption = None,
    scheme: SchemeOption = "paper",
    two_terms: TwoTermsOption = True,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = True,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Say which layers to keep in full precision: those that cause most alone, tried one after the other.

    It ends with what to give to other commands. Recipes of transformers keep products: formats recipes --keep.

    Examples: formats keep -m resnet20 -f INT6 --layers 4 · formats keep -m mine.py:net -f NVFP4 --target 10 -o kept.csv
    """
    check_measured([model], [format], effect, scheme)
    from predictor.device import on_device
    from predictor.keeping import keep as keep_layers
    from predictor.keeping import matching
    from reports import results
    from reports.tables import angles as tables
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force, command_line())
    workload = on_device(load(model, data, weights), device)
    with measuring_session(workers, None, store, device) as measuring:
        found = keep_layers(
            workload,
            format,
            layers=layers,
            target=target,
            effect=effect,
            minibatches=minibatches,
            batch_size=batch_size,
            exact=matching(workload.model, exact or ()),
            scheme=scheme,
            two_terms=two_terms,
            **measuring,
        )
    settings: dict[Any, Any] = found.attrs
    say(*tables.kept_layers(found, f"{model}: layers to keep out of {', '.join(settings['formats'])}"))
    if output is not None:
        results.write(found, output, settings | {"command": command_line()})
        say(f"wrote {output} and {results.sidecar_of(output)}")
