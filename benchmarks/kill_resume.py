"""Rankings that are killed with SIGKILL at random moments and started again: the table is that of one that never was,
and nothing is measured twice.

    python benchmarks/kill_resume.py [--kills 20] [--seed 0] [--model resnet20] [--bits 6] [--batch-size 16] \\
        [--minibatches 4]

Every `formats rank` is a process of its own, with one thread and a store of its own for each ranking. A kill comes
either while the process starts or after a random number of further measurements and a random part of a second; a
ranking that ends before it is counted, and the next begins.
After each kill a copy of the store is examined: SQLite's integrity_check, every earlier row unchanged, and no unit
begun again but the one that the kill took. Then: Ctrl-C and resume, and two processes at once on one store. Exit code 1
if anything is not as it should be.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from numeric_formats.folders import CACHE_VARIABLE
from predictor.measuring.store import FILE

LOG = "FORMATS_KILL_RESUME_LOG"
WATCHED = f"""
import json, os
import cli
from predictor.measuring import executors

real = executors.measure_unit

def noted(gradients, unit, format):
    line = json.dumps([os.getpid(), unit.minibatch, format.digest, list(unit.effects)])
    with open(os.environ[{LOG!r}], "a") as file:
        file.write(line + "\\n")
    return real(gradients, unit, format)

executors.measure_unit = noted
cli.run()
"""
"""The command, which also writes down each unit that it begins to measure."""
ROWS = """SELECT contexts.digest, batches.text, formats.text, effect, sums, seconds, checksum FROM measurements
JOIN contexts ON contexts.id = context JOIN names AS batches ON batches.id = batch
JOIN names AS formats ON formats.id = format"""
Rows = dict[tuple[str, ...], tuple[bytes, float, int]]


@dataclass
class Ranking:
    """One ranking in a folder of its own: its store, its log of units, its result."""

    folder: Path
    arguments: list[str]
    rows: Rows = field(default_factory=dict)

    @property
    def result(self) -> Path:
        return self.folder / "ranking.parquet"

    def start(self, output: str = "ranking.parquet") -> subprocess.Popen[str]:
        """Start the command, in a process group of its own."""
        (self.folder / "cache").mkdir(parents=True, exist_ok=True)
        own = {CACHE_VARIABLE: str(self.folder / "cache"), LOG: str(self.folder / "log"), "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable,
            "-c",
            WATCHED,
            "rank",
            *self.arguments,
            "--force",
            "--output",
            str(self.folder / output),
        ]
        return subprocess.Popen(
            command, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
        )

    def begun(self) -> list[list[Any]]:
        """Every unit that was begun: process, mini-batch, format's digest, effects. A last line that a kill cut short
        is left out."""
        log = self.folder / "log"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def table(self, output: str = "ranking.parquet") -> pd.DataFrame:
        """The result without the column that differs from run to run."""
        return pd.read_parquet(self.folder / output).drop(columns="seconds")

    def check_store(self) -> list[str]:
        """What is wrong with a copy of the store as it lies there; remembers its rows."""
        if not (self.folder / "cache" / FILE).exists():
            return [] if not self.rows else ["the store is gone"]
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder / "cache", copy)
        with closing(sqlite3.connect(copy / FILE)) as file:
            (intact,) = file.execute("PRAGMA integrity_check").fetchone()
            there = file.execute("SELECT count(*) FROM sqlite_master WHERE name = 'measurements'").fetchone()[0]
            rows: Rows = {tuple(row[:4]): tuple(row[4:]) for row in file.execute(ROWS)} if there else {}
        wrong = [] if intact == "ok" else [f"integrity_check: {intact}"]
        changed = [key for key, row in self.rows.items() if rows.get(key) != row]
        if changed:
            wrong.append(f"{len(changed)} rows are gone or were replaced")
        if any("set-aside" in path.name for path in (self.folder / "cache").iterdir()):
            wrong.append("a store was set aside")
        self.rows = rows
        return wrong

    def again(self) -> tuple[int, int]:
        """How many (unit, effect) were begun again; and how many of them although the process that had begun them went
        on to another unit."""
        begun = self.begun()
        last = {line[0]: place for place, line in enumerate(begun)}
        times: Counter[tuple[object, ...]] = Counter()
        finished: set[tuple[object, ...]] = set()
        needless = 0
        for place, (process, minibatch, digest, effects) in enumerate(begun):
            units = {(minibatch, digest, effect) for effect in effects}
            needless += len(units & finished)
            times.update(units)
            if last[process] != place:
                finished |= units
        return sum(times.values()) - len(times), needless


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two tables are equal in every bit."""
    return a.equals(b) and all(
        a[name].to_numpy().tobytes() == b[name].to_numpy().tobytes() for name in a if a[name].dtype == np.float64
    )


def kill(process: subprocess.Popen[str], how: signal.Signals = signal.SIGKILL) -> None:
    """End the whole process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)


def main(
    kills: Annotated[int, typer.Option(help="how often a ranking is killed")] = 20,
    seed: Annotated[int, typer.Option(help="decides the moments")] = 0,
    model: Annotated[str, typer.Option(help="as for formats rank")] = "resnet20",
    bits: Annotated[int, typer.Option(help="only formats of this width")] = 6,
    batch_size: Annotated[
        int | None, typer.Option(help="examples a mini-batch; default: 16 for the bundled networks")
    ] = None,
    minibatches: Annotated[int, typer.Option(help="mini-batches of the ranking")] = 4,
    output: Annotated[Path | None, typer.Option(help="write the lines to this file too")] = None,
) -> None:
    """Kill rankings and resume them; exit code 1 if a table differs or something was measured twice."""
    arguments = ["--model", model, "--bits", str(bits), "--minibatches", str(minibatches), "--top", "3"]
    if ":" not in model:
        arguments += ["--batch-size", str(batch_size or 16)]
    generator = np.random.default_rng(seed)
    failures = 0
    lines: list[str] = []

    def say(line: str, wrong: list[str] | None = None) -> None:
        nonlocal failures
        failures += bool(wrong)
        lines.append(f"{line}: {'; '.join(wrong)} WRONG" if wrong else line)
        print(lines[-1], flush=True)
        if output is not None:
            output.write_text("\n".join(lines) + "\n")

    def finish(
        ranking: Ranking,
        process: subprocess.Popen[str],
        reference: pd.DataFrame | None,
        output: str = "ranking.parquet",
    ) -> list[str]:
        """What is wrong with a ranking that was left to end."""
        said, _ = process.communicate()
        if process.returncode:
            return [f"exit code {process.returncode}: {' '.join(said.split())[-300:]}"]
        wrong = ranking.check_store()
        if reference is not None and not same(ranking.table(output), reference):
            wrong.append("the table differs from the uninterrupted one")
        return wrong

    with tempfile.TemporaryDirectory() as folder:
        whole = Ranking(Path(folder) / "whole", arguments)
        began = time.monotonic()
        process = whole.start()
        while not whole.begun() and process.poll() is None:
            time.sleep(0.02)
        starting = time.monotonic() - began
        wrong = finish(whole, process, None)
        units = len(whole.begun())
        say(f"formats rank {' '.join(arguments)}, uninterrupted: {units} units, {len(whole.rows)} measurements", wrong)
        if wrong:
            raise typer.Exit(1)
        reference = whole.table()

        number, killed, at_start, repeated = 0, 0, 0, 0
        while killed < kills:
            number += 1
            ranking, of_this = Ranking(Path(folder) / f"killed{number}", arguments), 0
            while True:
                before, process, moment = len(ranking.begun()), ranking.start(), "starting"
                if killed == kills:
                    break
                if generator.random() < 0.25:
                    time.sleep(generator.uniform(0, starting))
                else:
                    wanted, moment = before + int(generator.integers(1, max(2, units // 4))), "measuring"
                    while len(ranking.begun()) < wanted and process.poll() is None:
                        time.sleep(0.01)
                    time.sleep(generator.uniform(0, 0.3))
                if process.poll() is not None:
                    break  # it was quicker
                kill(process)
                process.communicate()
                killed, of_this = killed + 1, of_this + 1
                at_start += moment == "starting"
                held = len(ranking.rows)
                wrong = ranking.check_store()
                say(
                    f"kill {killed:2} while {moment}: {len(ranking.rows):4} measurements kept, {held:4} of them "
                    "from before",
                    wrong,
                )
            wrong = finish(ranking, process, reference)
            again, needless = ranking.again()
            repeated += again
            if needless:
                wrong.append(f"{needless} measurements were made twice without a kill")
            say(
                f"ranking {number}, killed {of_this} times: table equal bit for bit; {again} measurements lost "
                "to kills and made again",
                wrong,
            )

        ranking = Ranking(Path(folder) / "interrupted", arguments)
        process = ranking.start()
        while len(ranking.begun()) < units // 2 and process.poll() is None:
            time.sleep(0.01)
        kill(process, signal.SIGINT)
        said, _ = process.communicate()
        wrong = ranking.check_store()
        if process.returncode != 130 or "Traceback" in said:
            wrong.append(f"exit code {process.returncode}")
        partial = len(ranking.rows)
        wrong += finish(ranking, ranking.start(), reference)
        say(
            f"Ctrl-C with {partial} measurements, resumed: table equal bit for bit; {ranking.again()[0]} made again",
            wrong,
        )

        ranking = Ranking(Path(folder) / "both", arguments)
        both = [(name, ranking.start(name)) for name in ("one.parquet", "two.parquet")]
        wrong = [line for name, process in both for line in finish(ranking, process, reference, name)]
        if len(ranking.rows) != len(whole.rows):
            wrong.append(f"{len(ranking.rows)} measurements are kept")
        say(
            f"two processes at once on one store: both tables equal bit for bit; {len(ranking.rows)} measurements kept",
            wrong,
        )

    say(
        f"{killed} kills ({at_start} while starting) of {number} rankings; {repeated} measurements made again; "
        f"{failures} failures"
    )
    if failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
