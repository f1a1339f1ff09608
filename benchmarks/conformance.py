"""Which roundings of other libraries are exact? All that `formats.conformance.compare` knows of, compared bit for bit
with the exact emulator.

    python benchmarks/conformance.py > benchmarks/conformance.txt

Needs ml_dtypes, torch, gfloat, qtorch (which compiles an extension when it is imported: `ninja` has to be on PATH) and
pychop; a library that cannot be used is named at the end.
"""

import importlib.metadata
from typing import Annotated

import typer
from rich.console import Console

from formats.conformance.compare import Check, verify
from formats.conformance.libraries import LIBRARIES
from reports.tables import layout

WIDTH = 190


def rows(checks: list[Check]) -> list[list[str]]:
    """A line for each rounding without a mismatch, else one for each category with mismatches."""
    lines = []
    for subject in dict.fromkeys((check.subject, check.format) for check in checks):
        mine = [check for check in checks if (check.subject, check.format) == subject]
        wrong = [check for check in mine if check.mismatches]
        if not wrong:
            lines.append([*subject, f"all {len(mine)}", f"{sum(check.inputs for check in mine)}", "exact", ""])
        lines += [
            [*subject, check.category.value, str(check.inputs), str(check.mismatches), check.example] for check in wrong
        ]
    return lines


def main(
    inputs: Annotated[int, typer.Option(min=1, help="inputs in a category, at most")] = 200_000,
    seed: Annotated[int, typer.Option(help="seed of the random inputs")] = 0,
) -> None:
    """Print a table for each library: what is exact, and what is not with the first counterexample."""
    console = Console(width=WIDTH, highlight=False)
    headers = [
        ("rounding", "left"),
        ("format", "left"),
        ("category", "left"),
        ("inputs", "right"),
        ("mismatches", "right"),
    ]
    print(
        f"At most {inputs} inputs in a category, seed {seed}. Categories that a library says it does not define "
        "are left out."
    )
    unusable = []
    for library in LIBRARIES:
        try:
            checks = verify(library, inputs=inputs, seed=seed)
        except ValueError as error:
            unusable.append(str(error))
            continue
        title = f"{library} {importlib.metadata.version(library)}"
        with console.capture() as table:
            console.print(layout.plain(title, [*headers, ("first counterexample", "left")], rows(checks)))
        # Lines of a table are filled up with spaces, which a file is better without.
        print("\n" + "\n".join(line.rstrip() for line in table.get().splitlines()).rstrip())
    for problem in unusable:
        print(f"\n{problem}")


if __name__ == "__main__":
    typer.run(main)
