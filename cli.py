"""The command line: joins the commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import getdoc
from typing import Annotated

import typer

from commands import bench, cache, formats, measuring, quantization, ranking, recipes, reporting, searching, training
from commands.errors import ended

app = typer.Typer(
    name="formats",
    help="Which 6- to 8-bit number format should a training chip use? "
    "Rank formats on a pretrained network, without training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
COMMANDS: dict[str, Callable[..., None]] = {
    "list": formats.list_formats,
    "show": formats.show,
    "vectors": formats.vectors,
    "verify": formats.verify,
    "points": measuring.points,
    "measure": measuring.measure,
    "attribute": measuring.attribute,
    "keep": measuring.keep,
    "rank": ranking.rank,
    "train": training.train,
    "validate": training.validate,
    "quantize": quantization.quantize,
    "methods": training.methods,
    "cost": formats.cost,
    "search": searching.search,
    "fit": searching.fit,
    "plot": reporting.plot,
    "table": reporting.table,
    "report": reporting.report,
    "compare": ranking.compare,
}
"""In the order in which help lists them."""
for name, command in COMMANDS.items():
    # A paragraph is one line, however the source breaks it.
    app.command(name, help=re.sub(r"(?<!\n)\n(?!\n)", " ", getdoc(command) or ""))(command)
app.add_typer(recipes.app, name="recipes")
app.add_typer(bench.app, name="bench")
app.add_typer(cache.app, name="cache")


def _version(wanted: bool) -> None:
    if wanted:
        from numeric_formats import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def formats_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def run() -> None:
    """The console script."""
    ended(_main)


def _main() -> int | None:
    import numeric_formats  # noqa: F401  (first, and here: it refuses systems that none of this runs on)

    code: int | None = app(standalone_mode=False, prog_name="formats")
    return code


if __name__ == "__main__":
    run()
