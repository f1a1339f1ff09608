"""Situations that people have met with tools like this one: what is expected, what is found, and the verdict.

    OMP_NUM_THREADS=1 python benchmarks/situations.py [--only WORDS]

The checks are in benchmarks/situation/; what is expected is computed by torch or numpy alone. Each verdict is "right",
"refused by name" (one line that says what was given), "listed" (it stands under "no point") or WRONG. Exit code 1 where
any is WRONG.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.situation import files, models, networks, threads  # noqa: F401
from benchmarks.situation.listing import SITUATIONS, WRONG, run

HOME = Path(__file__).resolve().parents[1]


def main(only: Annotated[str, typer.Option(help="those whose names hold this")] = "") -> None:
    torch.set_num_threads(1)
    verdicts: Counter[str] = Counter()
    for name in SITUATIONS:
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(name, Path(folder))
            expected, found = (
                " ".join(text.replace(f"{folder}/", "").replace(folder, "FOLDER").replace(f"{HOME}/", "").split())
                for text in (outcome.expected, outcome.found)
            )
        verdicts[outcome.verdict] += 1
        print(f"{name}\n    expected: {expected}\n    found: {found}\n    {outcome.verdict}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())))
    sys.exit(int(verdicts[WRONG] > 0))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
