"""Commands about recipes: what they do to a network's gradient, recipes list, show and validate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.errors import INTERRUPTED
from commands.options import (
    MODEL_HELP,
    BatchSizeOption,
    ClusterOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    ExactOption,
    ForceOption,
    HeadOption,
    JsonOption,
    ModelOption,
    OptimizerOption,
    OutputOption,
    RateOption,
    StoreOption,
    WeightsOption,
    WorkersOption,
    command_line,
    share,
    split,
)
from commands.printing import say, say_json, tell
from commands.progress import interruptible, progress_shown, tell_of_compiling
from commands.session import kept, measuring_session

if TYPE_CHECKING:
    from pandas import DataFrame

PATIENCE = 20.0
"""Seconds after which the table of the first mini-batch is shown before the rest is measured."""

app = typer.Typer(help="Say what a recipe does to a network's gradient: which format each operand of a product has.")


@app.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP)] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="comma-separated: presets, FILE.toml, formats; default: all presets"),
    ] = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    by: Annotated[
        str, typer.Option(help="comma-separated: product (each alone), layer (each alone, and all but that one), both")
    ] = "",
    keep: Annotated[
        str | None,
        typer.Option(
            help="keep layers in bfloat16 too: names between commas (model.layers.0 for all below it, patterns such as "
            "'*.o_proj'), or shares of the multiply-accumulates such as 5%,15%, for which those are chosen that turn "
            "the gradient most for their cost"
        ),
    ] = None,
    order: Annotated[
        str, typer.Option(help="what ranks recipes: projection (its distance from 1) or angle (of the mean of draws)")
    ] = "projection",
    minibatches: Annotated[
        int | None, typer.Option(help="mini-batches that all recipes share; default: 4, or all where there are fewer")
    ] = None,
    batch_size: BatchSizeOption = None,
    draws: Annotated[int, typer.Option(help="of random numbers, on every mini-batch, where a recipe has some")] = 4,
    head: HeadOption = False,
    exact: ExactOption = None,
    seed: Annotated[int, typer.Option(help="of random numbers")] = 0,
    dry_run: DryRunOption = False,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = True,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Measure what recipes do to a network's weight gradient, without training: angle, projection, bias, by product and
    by layer, and with layers kept in bfloat16.

    Ctrl-C keeps what was measured.

    Columns: projection (how much of the gradient's length is left along itself, 1 is all), angle (of one draw of random
    numbers), of the mean (the angle of the mean over many draws), length (of the gradient, over that in full
    precision), bias (what does not average out over mini-batches, over a mini-batch's own noise; needs two of them),
    loss (what is added to it before any training), share (of the multiply-accumulates that are changed), gates (of one
    multiply-accumulate), failed (gradients that came out zero or not finite).

    Examples: formats recipes -m transformer · formats recipes -m mine.py:net -r mxfp8,nvfp4,mine.toml --by product -o
    recipes.csv · formats recipes -m transformer -r nvfp4 --keep 15% · formats recipes -m mine.py:large --dry-run ·
    formats recipes -m hf:NAME --weights FOLDER --data text@512:BOOK.txt -r mxfp8 --by product,layer --minibatches 1 ·
    formats recipes list
    """
    if context.invoked_subcommand is not None:
        return
    if model is None:
        raise ValueError("no network was given: say --model, or recipes list, show NAME or validate TABLE")
    from predictor import measure_recipes
    from predictor.device import on_device
    from predictor.recipe_comparison.angles import COMPLETE, COVERAGE
    from predictor.recipe_comparison.outlook import estimate_recipes
    from reports import results
    from reports.tables import recipes as tables
    from reports.verdicts import of_recipes
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force, command_line())
    names = None if recipe is None else split(recipe)
    if dry_run:
        tell_of_compiling()
        tell(f"{model}: making the network, then following its shapes and timing products")
    workload = on_device(load(model, data, weights), device)
    apart, untouched, kept_layers = split(by), exact or (), None if keep is None else _kept(keep)
    if dry_run:
        asked = estimate_recipes(
            workload,
            names,
            minibatches,
            by=apart,
            keep=kept_layers,
            batch_size=batch_size,
            draws=draws,
            head=head,
            exact=untouched,
        )
        say(tables.estimate(model, asked))
        return
    began = time.monotonic()

    def first(table: DataFrame) -> None:
        if time.monotonic() - began > PATIENCE:
            say("after the first mini-batch:", *tables.measured(table))

    with measuring_session(workers, cluster, store, device) as measuring:
        found = measure_recipes(
            workload,
            names,
            minibatches,
            by=apart,
            keep=kept_layers,
            order=order,
            batch_size=batch_size,
            draws=draws,
            head=head,
            exact=untouched,
            seed=seed,
            first=first,
            **measuring,
        )
        state = kept(measuring, "the same command goes on from them")
    settings: dict[Any, Any] = found.attrs
    coverage = [settings[COVERAGE]] if COVERAGE in settings else []
    say(*tables.measured(found), *coverage, f"verdict: {of_recipes(found)}")
    if output is not None:
        results.write(found, output, settings | {"command": command_line(), "verdict": of_recipes(found)})
        drawn = "recipes" if kept_layers is None else "kept"
        say(
            f"wrote {output} and {results.sidecar_of(output)}; formats plot {output} --kind {drawn} draws it, formats "
            f"report {output} makes a page of it"
        )
    if not settings[COMPLETE]:
        say(f"ended early by an interrupt; measurements {state}")
        raise typer.Exit(INTERRUPTED)


def _kept(text: str) -> list[float] | list[str]:
    """Shares, or names of layers, which may be numbers."""
    parts = split(text)
    return [share("--keep", part) for part in parts] if all(part.endswith("%") for part in parts) else parts


@app.command()
def validate(
    table: Annotated[Path, typer.Argument(help="what `formats recipes --output` wrote")],
    model: ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="folder of the trainings and of what comes out of them")
    ],
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="FILE.toml of recipes of the table that have no other name")
    ] = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    seeds: Annotated[int, typer.Option(help="trainings of each recipe")] = 2,
    epochs: EpochsOption = 5,
    start: Annotated[str, typer.Option("--from", help="scratch or pretrained")] = "scratch",
    optimizer: OptimizerOption = None,
    rate: RateOption = None,
    weight_decay: Annotated[float, typer.Option(help="weight decay")] = 5e-4,
    warmup: Annotated[int, typer.Option(help="steps in which the learning rate rises")] = 0,
    batch_size: BatchSizeOption = None,
) -> None:
    """Train the recipes of a table, and see which of its numbers has predicted how well each goes.

    Every recipe and float32 are trained from the same seeds, with the layers in full precision that were when the
    table was measured. A finished training is not done again and an ended one goes on: give the same command again, or
    in a second terminal to share the work.

    Example: formats recipes -m transformer -o recipes.csv && formats recipes validate recipes.csv -m transformer -o
    runs/recipes --optimizer adamw --rate 3e-3 --warmup 40
    """
    from dataclasses import asdict

    from predictor.columns import ANGLE, ANGLE_OF_MEAN, BIAS, LOSS_RISE, PROJECTION, RANK, RECIPE
    from predictor.measuring.store import Store
    from reports import results
    from reports.tables import recipes as tables
    from training import validate_recipes
    from training.optimizers import usual
    from workloads import load

    measured = results.read(table, (RECIPE, RANK, ANGLE, ANGLE_OF_MEAN, PROJECTION, BIAS, LOSS_RISE))
    settings = results.sidecar(table).get("settings", {})
    measured.attrs = {"recipes": settings.get("recipes", {})}
    workload = load(model, data, weights)
    optimizer, rate = usual(workload.model, optimizer, rate)
    with interruptible("the same command goes on"), Store.open() as store, progress_shown() as show:
        found = validate_recipes(
            workload,
            measured,
            output=output,
            recipes=split(recipe or ""),
            seeds=seeds,
            epochs=epochs,
            head=settings.get("head", False),
            exact=settings.get("exact", ()),
            store=store,
            progress=show,
            start=start,
            optimizer=optimizer,
            rate=rate,
            weight_decay=weight_decay,
            warmup=warmup,
            batch_size=batch_size,
        )
    title = f"{model}: {found.runs[RECIPE].nunique()} recipes, {seeds} trainings of {epochs} epochs each"
    say(*tables.validation(found, title), *found.coverage)
    agreements = {name: asdict(of) for name, of in found.agreements.items()}
    results.write(found.runs, output / "runs.csv", found.settings | {"agreements": agreements})
    say(f"wrote {output / 'runs.csv'}")


@app.command("list")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that have a name.

    Examples: formats recipes list · formats recipes list --json
    """
    from formats.recipes.presets import ROWS
    from reports.tables import recipes as tables

    if as_json:
        say_json([{"name": row.name, "x": row.x, "w": row.w, "dy": row.dy, "whose": row.whose} for row in ROWS])
    else:
        say(*tables.presets(ROWS))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="a preset, FILE.toml, or a format for all operands")],
    as_json: JsonOption = False,
) -> None:
    """Show a recipe: the format and rounding of each operand of each product, and what is transformed.

    Examples: formats recipes show nvfp4 · formats recipes show mine.toml --json
    """
    from formats import recipe
    from formats.recipes.value import described
    from reports.tables import recipes as tables

    found = recipe(name)
    if as_json:
        say_json(described(found))
    else:
        say(*tables.recipe(found))
