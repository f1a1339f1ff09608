"""What commands print: text as it is, and tables."""

from __future__ import annotations

import typer

WIDTH = 200
"""Of a table in a file or a pipe, in characters."""


def say(value: object) -> None:
    """To standard output: a line as it is, whatever stands in it; a table as wide as the terminal, or as `WIDTH`."""
    if not isinstance(value, str):
        from rich.console import Console

        # Without markup and emoji, which names such as hf:llama:7b and [0] would be taken for.
        console = Console(markup=False, emoji=False, highlight=False)
        if not console.is_terminal:
            console.width = WIDTH
        with console.capture() as drawn:
            console.print(value)
        value = drawn.get().removesuffix("\n")
    typer.echo(value)
