"""Commands about the store of exact measurements: cache info, cache clear."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.printing import say

app = typer.Typer(help="Look at the store of exact measurements, or empty it.", no_args_is_help=True)


@app.command()
def info(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Say where measurements are kept, how many there are, and on what they were made.

    Examples: formats cache info · FORMATS_CACHE=/scratch/formats formats cache info --json
    """
    import json
    from dataclasses import asdict

    from predictor.measuring.store import Store
    from reports.tables import plain

    with Store.open() as store:
        held = store.info()
    if as_json:
        typer.echo(json.dumps(asdict(held)))
        return
    say(
        f"{held.path}: {held.measurements} measurements of {held.formats} formats on {held.minibatches} mini-batches; "
        f"{held.bytes / 1e6:.1f} MB; {held.set_aside} older or damaged files set aside"
    )
    if held.contexts:
        headers = [
            ("weights", "left"),
            ("torch", "left"),
            ("device", "left"),
            ("threads", "right"),
            ("measurements", "right"),
        ]
        rows = [
            [c["weights"][:12], c["torch"], c["device"], str(c["threads"]), str(c["measurements"])]
            for c in held.contexts
        ]
        say(plain("made on", headers, rows))


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
