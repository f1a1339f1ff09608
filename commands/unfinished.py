"""What is said of a result whose measuring was not finished."""

from __future__ import annotations

from pathlib import Path

import typer


def tell_of_unfinished(*results: Path) -> None:
    """A line on standard error for each ranking that goes on, or was ended early; nothing for other files."""
    from numeric_formats.messages import printable
    from reports.results import ENDINGS, sidecar
    from reports.verdicts import unfinished

    for path in results:
        if path.suffix.lower() in ENDINGS and (said := unfinished(sidecar(path).get("settings", {}))):
            typer.echo(printable(f"{path} is {said}"), err=True)
