"""Commands about the store of exact measurements: cache info, cache clear."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.options import JsonOption
from commands.printing import say, say_json

app = typer.Typer(help="Look at the store of exact measurements, or empty it.", no_args_is_help=True)


@app.command()
def info(as_json: JsonOption = False) -> None:
    """Say where measurements are kept, how many there are, and on what they were made.

    Examples: formats cache info · FORMATS_CACHE=/scratch/formats formats cache info --json
    """
    from dataclasses import asdict

    from predictor.measuring.store import Store

    with Store.open() as store:
        held = store.info()
    if as_json:
        say_json(asdict(held))
    else:
        from reports.tables import machine

        say(*machine.store(held))


@app.command()
def clear(
    yes: Annotated[bool, typer.Option("--yes", help="do it")] = False,
) -> None:
    """Forget all measurements, and delete stores that were set aside.

    Example: formats cache clear --yes
    """
    from predictor.measuring.store import Store, default_path

    if not yes:
        raise ValueError(f"all measurements in {default_path()} would be forgotten; say --yes")
    with Store.open() as store:
        say(f"forgot {store.clear()} measurements in {store.path}")
