"""Two versions of this project timed in turns, A B A B: the ratio B/A of each row of `formats bench`, pair by pair.

python benchmarks/paired.py OLD_CHECKOUT NEW_CHECKOUT --rounds 3
"""

import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

COMMANDS = (
    ("bench", "emulator", "--repeats", "5"),
    ("bench", "emulator", "--elements", "1024", "--repeats", "2001"),
    ("bench", "gradient", "-m", "resnet20", "--batch-size", "64", "--repeats", "5"),
)
ROW = re.compile(r"^ (?P<what>\S.*?)\s{2,}(?P<numbers>[\d.]+(?:\s+[\d.]+)*)$")


def rows(tree: Path, command: tuple[str, ...]) -> dict[str, float]:
    """The time of each row of a table, by what it times and the number of threads."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    code = f"import sys; sys.argv = ['formats', *{list(command)!r}]; import cli; cli.run()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=environment, check=True, capture_output=True, text=True
    )
    found = {}
    for line in done.stdout.splitlines():
        if match := ROW.match(line.rstrip()):
            numbers = match["numbers"].split()
            threaded = len(numbers) == 4
            found[match["what"] + (f", {numbers[0]} threads" if threaded else "")] = float(numbers[int(threaded)])
    return found


def main(
    old: Annotated[Path, typer.Argument(help="the checkout of version A")],
    new: Annotated[Path, typer.Argument(help="the checkout of version B")],
    rounds: Annotated[int, typer.Option(help="pairs of runs")] = 3,
) -> None:
    """Print, for each row, the median time of A and the ratio B/A: its median and range over the pairs."""
    for command in COMMANDS:
        times: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(rounds):
            before, after = rows(old.resolve(), command), rows(new.resolve(), command)
            for what in before.keys() & after.keys():
                times[what].append((before[what], after[what]))
        print(f"formats {' '.join(command)}: {rounds} pairs of runs")
        print(f"  {'what':48} {'A':>10} {'B/A':>7}  range")
        for what, pairs in sorted(times.items()):
            ratios = sorted(b / a for a, b in pairs)
            middle = statistics.median(a for a, _ in pairs)
            print(f"  {what:48} {middle:10.4g} {statistics.median(ratios):7.3f}  {ratios[0]:.3f} to {ratios[-1]:.3f}")


if __name__ == "__main__":
    typer.run(main)
