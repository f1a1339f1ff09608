"""Commands that look for formats beyond the catalogue: search, fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.errors import INTERRUPTED
from commands.options import (
    BatchSizeOption,
    ClusterOption,
    DataOption,
    DeviceOption,
    ExactOption,
    FittedOption,
    ForceOption,
    HeadroomOption,
    MaxBinadesOption,
    MaxPrecisionsOption,
    MaxRunsOption,
    MinibatchesOption,
    ModelOption,
    OutputOption,
    PassesOption,
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
from commands.printing import say
from commands.session import kept, measuring_session


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
            help="add what each multiply-accumulate costs, and which formats no other beats in both angle and gates",
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
        results.check_output(output, results.ENDINGS, force, command_line())
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
        results.write(table, output, settings | {"command": command_line()})
        drawn = f"; formats plot {output} --kind synthesized draws it" if average_bits is None else ""
        say(f"wrote {output} and {results.sidecar_of(output)}{drawn}")
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
        results.check_output(output, results.ENDINGS, force, command_line())
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
        results.write(found.table, output, settings | {"command": command_line()})
        say(f"wrote {output} and {results.sidecar_of(output)}")
