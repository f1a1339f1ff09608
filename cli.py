"""The command line: joins the commands, and ends in one line where one fails."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from inspect import getdoc

import typer

from commands import bench, cache, formats, measuring, quantization, ranking, reporting, training
from commands.errors import BAD_INPUT, INTERRUPTED

app = typer.Typer(
    name="formats",
    help="Which 6- to 8-bit number format should a training chip use? Rank formats on a pretrained network, without training.",
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
    "rank": ranking.rank,
    "train": training.train,
    "validate": training.validate,
    "quantize": quantization.quantize,
    "methods": training.methods,
    "cost": formats.cost,
    "search": ranking.search,
    "fit": ranking.fit,
    "plot": reporting.plot,
    "report": reporting.report,
    "compare": ranking.compare,
}
for name, command in COMMANDS.items():
    # A paragraph is one line, however the source breaks it.
    app.command(name, help=re.sub(r"(?<!\n)\n(?!\n)", " ", getdoc(command) or ""))(command)
app.add_typer(bench.app, name="bench")
app.add_typer(cache.app, name="cache")


def run() -> None:
    """The console script: errors in what the user gave are one line and exit code 2."""
    code: int | None
    try:
        import numeric_formats  # noqa: F401  (first, and here: it refuses systems that none of this runs on)

        code = app(standalone_mode=False, prog_name="formats")
    except (
        typer.TyperException
    ) as error:  # an option or argument that cannot be read; without a message where help was printed instead
        code = BAD_INPUT
        if message := " ".join(error.format_message().split()):
            context = getattr(error, "ctx", None)
            typer.echo(
                f"error: {message.rstrip('.')}" + (f"; see {context.command_path} --help" if context else ""), err=True
            )
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            message = f"{error.filename}: {error.strerror}"
        typer.echo(f"error: {' '.join(message.split())}", err=True)
        code = BAD_INPUT
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code or 0)


if __name__ == "__main__":
    run()
