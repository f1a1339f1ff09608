"""Commands about recipes: what they do to a network's gradient, recipes list, recipes show."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from commands.errors import INTERRUPTED
from commands.options import (
    MODEL_HELP,
    BatchSizeOption,
    ClusterOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    ExactOption,
    ForceOption,
    HeadOption,
    JsonOption,
    OutputOption,
    StoreOption,
    WeightsOption,
    WorkersOption,
    share,
    split,
)
from commands.printing import say, say_json
from commands.session import kept, measuring_session

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
        str, typer.Option(help="comma-separated: product (each alone) and layer (each alone, and all but that one)")
    ] = "",
    keep: Annotated[
        str | None,
        typer.Option(
            help="keep layers in bfloat16 too: their names between commas, or a share of the multiply-accumulates such "
            "as 15%, for which those are chosen that save most for their cost"
        ),
    ] = None,
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

    Examples: formats recipes -m transformer · formats recipes -m mine.py:net -r mxfp8,nvfp4,mine.toml --by product -o
    recipes.csv · formats recipes -m transformer -r nvfp4 --keep 15% · formats recipes list
    """
    if context.invoked_subcommand is not None:
        return
    if model is None:
        raise ValueError("no network was given: say --model, or recipes list or recipes show NAME")
    from predictor import measure_recipes
    from predictor.device import on_device
    from predictor.recipe_angles import COMPLETE, COVERAGE, estimate_recipes
    from reports import results
    from reports.tables import recipes as tables
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    names = None if recipe is None else split(recipe)
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
    with measuring_session(workers, cluster, store, device) as measuring:
        found = measure_recipes(
            workload,
            names,
            minibatches,
            by=apart,
            keep=kept_layers,
            batch_size=batch_size,
            draws=draws,
            head=head,
            exact=untouched,
            seed=seed,
            **measuring,
        )
        state = kept(measuring, "the same command goes on from them")
    settings: dict[Any, Any] = found.attrs
    say(*tables.measured(found), *([settings[COVERAGE]] if COVERAGE in settings else []))
    if output is not None:
        results.write(found, output, settings)
        say(f"wrote {output} and {results.sidecar_of(output)}")
    if not settings[COMPLETE]:
        say(f"ended early by an interrupt; measurements {state}")
        raise typer.Exit(INTERRUPTED)


def _kept(text: str) -> float | list[str]:
    """A share, or names of layers."""
    is_share = text.strip().endswith("%") or text.strip().replace(".", "", 1).isdigit()
    return share("--keep", text) if is_share else split(text)


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
