"""Commands that measure angles: points, measure, attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.errors import INTERRUPTED
from commands.options import (
    BatchSizeOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    EffectsOption,
    ExactOption,
    ForceOption,
    MinibatchesOption,
    ModelOption,
    OutputOption,
    SchemeOption,
    StoreOption,
    TwoTermsOption,
    WeightsOption,
    split,
)
from commands.printing import say
from commands.progress import progress_shown
from commands.session import measuring_session


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
    force: ForceOption = False,
) -> None:
    """List where a model's data flow is quantized, what has no point, and what is kept exact; or write the tensors that
    are there.

    Examples: formats points --model resnet18 · formats points -m resnet20 --tensors dump.npz --layer conv1 --layer fc
    · formats points -m hf:gpt2 --data text:book.txt
    """
    from predictor.listing import list_points
    from predictor.recording import record, write
    from reports import results
    from reports.tables import angles as tables
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
    say(*tables.points(model, *list_points(workload, exact or ())))


def measure(
    model: ModelOption,
    formats: Annotated[str, typer.Option("--formats", "-f", help="comma-separated names; ACTIVATION+ERROR is a pair")],
    data: DataOption = None,
    weights: WeightsOption = None,
    effects: EffectsOption = "E,A,AE",
    minibatches: MinibatchesOption = None,
    batch_size: BatchSizeOption = None,
    scope: Annotated[str, typer.Option(help="all, first, layers, or a parameter's name")] = "all",
    exact: ExactOption = None,
    scheme: SchemeOption = "paper",
    two_terms: TwoTermsOption = True,
    device: DeviceOption = "cpu",
    store: StoreOption = True,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Measure the angles of some formats exactly.

    Examples: formats measure -m resnet18 -f FP134,FP143 · formats measure -m mine.py:net -f FP143+FP152 --scope layers
    """
    from predictor import measure as measure_angles
    from predictor.angles import COVERAGE, NOTES
    from predictor.device import on_device
    from predictor.scheme import scheme_of
    from reports import results
    from reports.tables import angles as tables
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    names = split(formats)
    workload = on_device(load(model, data, weights), device)
    with measuring_session(None, None, store, device) as measuring:
        found = measure_angles(
            workload,
            names,
            split(effects),
            minibatches,
            batch_size=batch_size,
            scopes=[scope],
            exact=exact or (),
            scheme=scheme,
            two_terms=two_terms,
            **measuring,
        )
    said = [*found.attrs[NOTES], *([found.attrs[COVERAGE]] if COVERAGE in found.attrs else [])]
    say(tables.measurement(found), *said)
    if output is not None:
        settings = {
            "workload": model,
            "formats": names,
            "minibatches": minibatches,
            "batch_size": batch_size,
            **scheme_of(scheme, two_terms=two_terms).settings,
        }
        results.write(found, output, settings)
        say(f"wrote {output}")


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
    from predictor.attribution import attribute as attribute_angle
    from predictor.attribution import estimate
    from reports import results
    from reports.plots import attributions, style
    from reports.tables import angles as tables
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    if plot is not None:
        results.check_output(plot, style.ENDINGS, force)
    workload, kept = load(model, data, weights), exact or ()
    if dry_run:
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
        results.write(found, output, settings)
        say(f"wrote {output} and {results.sidecar_of(output)}")
    if plot is not None:
        style.save(attributions.attribution(found, title), plot)
        say(f"wrote {plot}")
    if not settings["complete"]:
        raise typer.Exit(INTERRUPTED)
