"""Kills rank, train, quantize, validate and report at every file operation, and fills their disk there; then the same
command goes on.

    OMP_NUM_THREADS=1 python benchmarks/kill_matrix.py [COMMAND ...] > benchmarks/kill_matrix.txt

A file operation is what changes a file or folder: open for writing, write, fsync, replace, unlink, mkdir, rmdir, chmod,
and a statement of the store's database. At each comes a SIGKILL before it, which is after the one before, and then a
full disk in its place; at a write also a SIGKILL in the middle. What a reader then finds has to be whole, old or new;
what the command that goes on leaves has to be what one that nothing happened to leaves, bit for bit but for times, and
no temporary file.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import cli
from predictor import statistics
from reports import results
from training import checkpoint

NETWORK = """
import torch
from torch import nn
from workloads import Workload


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def accuracy(model, batch):
    return (model(batch[0]).argmax(1) == batch[1]).float().mean().item()


def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
    data = [(torch.randn(8, 6), torch.randint(0, 3, (8,))) for _ in range(3)]
    return Workload("tiny", model, data, loss, test=data[:1], metric=accuracy)
"""
TRAIN = ("train", "-m", "tiny.py:net", "--epochs", "2", "--checkpoint-every", "4", "--angle-every", "3", "-o", "run")
QUANTIZE = ("quantize", "-m", "tiny.py:net", "--adaround-iterations", "250", "-o", "run")
RANK = ("rank", "-m", "tiny.py:net", "-f", "FP134,INT8,FP143", "--minibatches", "1", "-o", "r.csv")
VALIDATE = ("validate", "old.csv", "-m", "tiny.py:net", "-o", "val", "--count", "3", "--seeds", "1", "--epochs", "1")
REPORT = ("report", "old.csv")


@dataclass(frozen=True)
class Scenario:
    """A command that something happens to.

    Attributes:
        name: what is printed.
        before: commands that come first, undisturbed.
        command: what is killed.
        again: what goes on.
        cut: a command that comes first, and the operation at which it is killed.
        refused: whether `again` may say in one line that the earlier run still stands; `command` is then given anew.
    """

    name: str
    before: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    again: tuple[str, ...]
    cut: tuple[tuple[str, ...], int] | None = None
    refused: bool = False


OLD = (*RANK[:-1], "old.csv")
SCENARIOS = (
    Scenario("rank", (), RANK, (*RANK, "--force")),
    Scenario("rank --force", ((*RANK[:4], "FP134,INT8", *RANK[5:]),), (*RANK, "--force"), (*RANK, "--force")),
    Scenario("train", (), TRAIN, (*TRAIN, "--resume")),
    Scenario("train --force", ((*TRAIN, "--seed", "3"),), (*TRAIN, "--force"), (*TRAIN, "--resume"), refused=True),
    Scenario("train --resume", (), (*TRAIN, "--resume"), (*TRAIN, "--resume"), cut=(TRAIN, 60)),
    Scenario("quantize", (), QUANTIZE, (*QUANTIZE, "--resume")),
    Scenario(
        "quantize --force",
        ((*QUANTIZE, "--weights", "INT3"),),
        (*QUANTIZE, "--force"),
        (*QUANTIZE, "--resume"),
        refused=True,
    ),
    Scenario("validate", (OLD,), VALIDATE, VALIDATE),
    Scenario("report", (OLD,), REPORT, (*REPORT, "--force")),
    Scenario("report --force", (OLD, REPORT), (*REPORT, "--force"), (*REPORT, "--force")),
)


class Operations:
    """Counts file operations, and lets something happen at one of them."""

    def __init__(self, at: int = 0, how: str = "count"):
        self.at, self.how, self.count, self.writes = at, how, 0, list[int]()

    def met(self, operation: Callable[[], Any], full: Callable[[], Exception]) -> Any:
        """Carry out an operation, or what is to happen in its place."""
        self.count += 1
        if self.count != self.at:
            return operation()
        if self.how == "full":
            raise full()
        if self.how == "middle":
            operation()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("outlived a kill")

    def __enter__(self) -> Operations:
        writing = os.O_WRONLY | os.O_RDWR
        for name in ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "chmod"):
            setattr(os, name, self._wrapped(getattr(os, name), lambda *given, **named: True))
        os.open = self._wrapped(os.open, lambda path, flags, *given, **named: bool(flags & writing))
        opening = self._wrapped(builtins.open, lambda file, mode="r", *given, **named: set(mode) & set("wax+"))
        builtins.open = io.open = opening
        fdopen = os.fdopen
        os.fdopen = lambda *given, **named: _Writing(fdopen(*given, **named), self)
        connect = sqlite3.connect
        sqlite3.connect = lambda *given, **named: connect(*given, **named, factory=_connection(self))
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is put back: the process ends."""

    def _wrapped(self, function: Callable[..., Any], counts: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            if not counts(*given, **named):
                return function(*given, **named)
            return self.met(lambda: function(*given, **named), _full)

        return wrapped


def _full() -> Exception:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_database() -> Exception:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


class _Writing:
    """A file whose first write counts, as the others leave part of it too; a kill in its middle leaves half of that."""

    def __init__(self, file: Any, operations: Operations):
        self._file, self._operations, self._begun = file, operations, False

    def write(self, content: bytes) -> int:
        if self._begun:
            return self._file.write(content)
        self._begun = True
        self._operations.writes.append(self._operations.count + 1)

        def written() -> int:
            if self._operations.count != self._operations.at:
                return self._file.write(content)
            self._file.write(bytes(content)[: len(content) // 2])
            self._file.flush()
            return 0

        return self._operations.met(written, _full)

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _connection(operations: Operations) -> type[sqlite3.Connection]:
    class Counting(sqlite3.Connection):
        def execute(self, statement: str, *given: Any) -> sqlite3.Cursor:
            if statement.lstrip().startswith("SELECT"):
                return super().execute(statement, *given)
            return operations.met(lambda: super(Counting, self).execute(statement, *given), _full_database)

    return Counting


def _run(folder: Path, command: tuple[str, ...]) -> int:
    """A command in this process: its exit code."""
    os.chdir(folder)
    os.environ["FORMATS_CACHE"] = str(folder / "cache")
    sys.argv = ["formats", *command]
    try:
        cli.run()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def warm_up(commands: Sequence[tuple[str, ...]]) -> None:
    """Commands once in this process: those that it forks have loaded and compiled everything."""
    statistics.RESAMPLES = 20  # which write nothing, and would take most of the time of a validation
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        before = Path.cwd()
        (Path(place) / "tiny.py").write_text(NETWORK)
        for command in commands:
            assert _run(Path(place), command) == 0, quiet.getvalue()
            shutil.rmtree(Path(place) / "run", ignore_errors=True)
        os.chdir(before)


def called(folder: Path, command: tuple[str, ...], operations: Operations | None = None) -> tuple[int, str]:
    """A command in a process that this one forks: its exit code, or minus its signal, and its errors. Where operations
    are counted, the last line says how many there are, and which are writes."""
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            code = 99
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(said.fileno(), 2)
                sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 (until the process ends)
                with operations or contextlib.nullcontext():
                    code = _run(folder, command)
                if operations is not None and operations.how == "count":
                    print(json.dumps([operations.count, operations.writes]), file=sys.stderr)
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode()


def prepared(place: Path, scenario: Scenario) -> Path:
    """A folder as it is before the command."""
    folder = place / "before"
    folder.mkdir(parents=True)
    (folder / "tiny.py").write_text(NETWORK)
    for command in scenario.before:
        code, said = called(folder, command)
        assert code == 0, said
    if scenario.cut is not None:
        command, at = scenario.cut
        code, said = called(folder, command, Operations(at, "before"))
        assert code == -signal.SIGKILL, said
    return folder


TIMES = {"seconds", "written"}


def _plain(value: Any) -> Any:
    """Without what differs from run to run."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items() if key not in TIMES}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def _timeless(table: pd.DataFrame) -> str:
    return table.drop(columns=[name for name in table.columns if "seconds" in name]).to_csv()


def found(folder: Path) -> dict[str, Any]:
    """What a folder holds, file by file, without times."""
    held: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name.startswith("cache/"):
            continue
        if path.suffix == ".safetensors":
            tensors, state = checkpoint.read(path)
            held[name] = {key: value.numpy().tobytes() for key, value in tensors.items()}, _plain(state)
        elif path.suffix == ".parquet":
            held[name] = _timeless(pd.read_parquet(path))
        elif path.suffix == ".csv":
            held[name] = _timeless(pd.read_csv(path))
        elif path.suffix == ".json":
            content = _plain(json.loads(path.read_text()))
            # The command is part of a ranking's settings; with --force it is another one.
            content.get("settings", {}).pop("command", None)
            if "sha256" in content:
                content.pop("sha256")
            held[name] = content
        elif path.suffix == ".html":
            held[name] = re.sub(r"[0-9a-f]{64}|\d{4}-\d\d-\d\dT[\d:+]+", "", path.read_text())
        else:
            held[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return held


def temporary(folder: Path) -> list[str]:
    """What no run may leave: files that were being written, stores that were set aside."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    return [name for name in names if name.endswith(".part") or "set-aside" in name or Path(name).name.startswith(".")]


def check_readable(folder: Path) -> None:
    """Every result file that is there, with its sidecar, and every page is whole."""
    for path in folder.glob("*.csv"):
        results.read(path)
        results.sidecar(path)
    for path in folder.glob("*.html"):
        assert path.read_text().rstrip().endswith("</html>"), f"{path.name} is cut short"


def tried(place: Path, before: Path, scenario: Scenario, wanted: dict[str, Any], at: int, how: str) -> str:
    """What is wrong after something has happened at an operation; "" where nothing is."""
    folder = place / "tried"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    code, said = called(folder, scenario.command, Operations(at, how))
    if how == "full":
        lines = [line for line in said.splitlines() if line.startswith(("error", "warning", "internal"))]
        # Nothing may be wrong where a folder that is there is made again.
        if code not in (0, 2) or len(lines) > 1 or (code and not lines) or "Traceback" in said:
            return f"a full disk ends it with {code}: {said[-300:]!r}"
    elif code not in (-signal.SIGKILL, 0):
        return f"it ended with {code}: {said[-300:]!r}"
    try:
        check_readable(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    code, said = called(folder, scenario.again)
    if code == 2 and scenario.refused and said.count("\n") == 1:
        code, said = called(folder, (*scenario.command, *(("--force",) if "--force" not in scenario.command else ())))
    if code:
        return f"what goes on ends with {code}: {said[-300:]!r}"
    if left := temporary(folder):
        return f"left behind: {', '.join(left)}"
    have = found(folder)
    if have != wanted:
        differ = sorted(name for name in have.keys() | wanted.keys() if have.get(name) != wanted.get(name))
        return f"other content: {', '.join(differ)}"
    return ""


def points(
    place: Path, scenario: Scenario, every: int = 1, first: int = 1, most: int | None = None
) -> Iterator[tuple[int, str, str]]:
    """All that is tried of a scenario, with what is wrong: the operation, what happens there, what is then found.
    every, first, most: of the operations."""
    before = prepared(place, scenario)
    whole = place / "whole"
    shutil.copytree(before, whole)
    code, said = called(whole, scenario.command, Operations())
    assert code == 0, said
    (count, writes), wanted = json.loads(said.splitlines()[-1]), found(whole)
    for at in range(first, count + 1, every)[:most]:
        for how in ("before", *(("middle",) if at in writes else ()), "full"):
            yield at, how, tried(place, before, scenario, wanted, at, how)


def main(names: list[str]) -> int:
    """Try all scenarios, or those of these names, and print what was found."""
    wrong = 0
    warm_up((TRAIN, QUANTIZE, RANK, OLD, VALIDATE, REPORT))
    for scenario in SCENARIOS:
        if names and scenario.name not in names:
            continue
        with tempfile.TemporaryDirectory() as place:
            counts = {"before": 0, "middle": 0, "full": 0}
            failures = []
            for at, how, what in points(Path(place), scenario):
                counts[how] += 1
                if what:
                    failures.append(f"    operation {at}, {how}: {what.replace(place, '')}")
                    print(scenario.name, failures[-1], file=sys.stderr, flush=True)
        wrong += len(failures)
        total = sum(counts.values())
        print(
            f"{scenario.name}: {counts['before']} file operations, {counts['middle']} of them writes; "
            f"killed at each, and the disk full: "
            f"{total - len(failures)} of {total} right",
            *failures,
            sep="\n",
            flush=True,
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
