"""How long commands take to begin, with warm caches: the least and the median of several runs, each a process.

    python benchmarks/start_up.py > benchmarks/start_up.txt

A quiet machine is needed. `rank` is timed to the first line that it prints, of a network whose measurements the store
already has; the run before it, not timed, fills a store of its own. Aims: 0.3 s for --help, list and show, 0.5 s for
other small commands, 2 s for a plot, 3 s for rank's first line.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 7
SMALL = {
    ("--help",): 0.3,
    ("list",): 0.3,
    ("show", "FP134"): 0.3,
    ("--version",): 0.5,
    ("cost", "FP134"): 0.5,
    ("cache", "info"): 0.5,
    ("report", "none.csv"): 0.5,
    ("plot", "--profiles", "FP134,BM25", "--output", "profiles.png", "--force"): 2.0,
}
RANK = ("rank", "--model", "lstm")


def seconds(arguments: tuple[str, ...], folder: str, first_line: bool = False) -> float:
    """Of one run, to its end or to the first line that it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FORMATS_CACHE": folder, "PYTHONDONTWRITEBYTECODE": ""}
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        at_first = time.perf_counter() - began
        process.stdout.read()
    return at_first if first_line else time.perf_counter() - began


def main() -> None:
    """Time and judge."""
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        seconds(("list",), folder)  # from here on compiled Python is there
        bare = [sys.executable, "-c", "import typer.main"]
        timed = [_timed(bare) for _ in range(REPEATS)]
        print(f"{'python -c import typer.main':60} {min(timed):5.2f} {statistics.median(timed):5.2f}")
        for arguments, aim in SMALL.items():
            kept &= tell(arguments, [seconds(arguments, folder) for _ in range(REPEATS)], aim)
        seconds(RANK, folder)
        kept &= tell((*RANK, "(first line)"), [seconds(RANK, folder, True) for _ in range(3)], 3.0)
    print("all as promised" if kept else "SOMETHING FALLS SHORT")
    raise SystemExit(not kept)


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def tell(arguments: tuple[str, ...], taken: list[float], aim: float) -> bool:
    """A line; whether the median is below the aim."""
    median = statistics.median(taken)
    print(f"{'formats ' + ' '.join(arguments):60} {min(taken):5.2f} {median:5.2f}, aim {aim}", flush=True)
    return median < aim


if __name__ == "__main__":
    main()
