"""What commands print."""

from __future__ import annotations


def say(value: object) -> None:
    """To standard output; a table keeps its width where that is a file or a pipe."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(value, markup=False, highlight=False)


def fact(value: object) -> str:
    """A fact in a table."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {entry}" for key, entry in value.items()) or "none"
    return "-" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
