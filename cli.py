"""The command line: joins the commands."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from inspect import getdoc
from typing import Annotated

import typer

from commands.errors import ended

HELD_BY = {
    "list": "formats",
    "show": "formats",
    "vectors": "formats",
    "verify": "formats",
    "points": "measuring",
    "measure": "measuring",
    "attribute": "measuring",
    "keep": "measuring",
    "rank": "ranking",
    "train": "training",
    "validate": "training",
    "quantize": "quantization",
    "methods": "training",
    "cost": "formats",
    "search": "searching",
    "fit": "searching",
    "plot": "reporting",
    "table": "reporting",
    "report": "reporting",
    "compare": "ranking",
    "recipes": "recipes",
    "bench": "bench",
    "cache": "cache",
}
"""The module of `commands` that holds each command, in the order in which help lists them."""
OTHERWISE = {"list": "list_formats"}
"""Functions that are not called as their command."""
GROUPS = ("recipes", "bench", "cache")
"""Those that have commands of their own."""


def _version(wanted: bool) -> None:
    if wanted:
        from numeric_formats import __version__

        typer.echo(__version__)
        raise typer.Exit()


def formats_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def application(asked: str = "") -> typer.Typer:
    """All commands; or the one asked for, where there is one of this name, since to make all takes longer than some of
    them run."""
    made = typer.Typer(
        name="formats",
        help="Which number format should a chip train in, and which low-precision recipe should a run take? "
        "Ranked on a pretrained network, without training.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    made.callback()(formats_command)
    for name in [asked] if asked in HELD_BY else HELD_BY:
        module = import_module(f"commands.{HELD_BY[name]}")
        if name in GROUPS:
            made.add_typer(module.app, name=name)
            continue
        function = getattr(module, OTHERWISE.get(name, name))
        # A paragraph is one line, however the source breaks it.
        described = re.sub(r"(?<!\n)\n(?!\n)", " ", getdoc(function) or "")
        made.command(name, help=described)(function)
    return made


app = application()


def run() -> None:
    """The console script."""
    ended(_main)


def _main() -> int | None:
    import numeric_formats  # noqa: F401  (first, and here: it refuses systems that none of this runs on)

    code: int | None = application(*sys.argv[1:2])(standalone_mode=False, prog_name="formats")
    return code


if __name__ == "__main__":
    run()
