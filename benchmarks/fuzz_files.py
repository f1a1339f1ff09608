"""Damaged files of every kind that is read: each must give the value that it held, or an error of one line.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_files.py [--count 10000] [--seed 0] [--kinds csv,npz]

`count` files of each kind, each damaged by its own seed: flipped bits, bytes cut off, put in, left out or filled with
zeros, parts of another file of the kind, fields of text edited. They are read in child processes of limited memory, so
that a crash or a hang costs one and is seen. A value other than the file's own counts as wrong where the file has a
checksum; without one, damage can make another file that is as good. Exit code 1 where anything is wrong.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from PIL import Image
from safetensors.torch import save_file

import formats
from formats.kernel import BUCKETS
from predictor.effects import Effect
from predictor.measuring.store import Store, Stored
from predictor.measuring.validity import Context
from reports import results, runs
from search.fitting import read_tensors
from training import checkpoint
from workloads.data.cifar import LAYOUTS, read_cifar
from workloads.data.images import read_folder
from workloads.weights import read_state

VARIANTS = 4
"""Undamaged files of each kind."""
BLOCK = 500
"""Files a child process reads."""
SECONDS = 20
"""That one file may take."""
MEMORY = 4 << 30
"""Bytes that a child may have beside what it has when it begins."""
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
MEMORY_DISK = Path("/dev/shm")
"""Where files come and go at once."""
ODD = (b"-1", b"0", b"1e400", b"-1e400", b"nan", b"99999999999999999999", b"1.5", b"", b"null", b"true", b'"x"', b"[]")
ODD += (b"{}", b"\x1b[31m", b"\xff", b"\n", b"[[" * 3000, b"9" * 5000)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    make: writes a file, and others with it, into a folder; its path. read: what it holds, as something that can be
    compared. checked: whether a checksum stands for its content.
    """

    make: Callable[[Path, random.Random], Path]
    read: Callable[[Path], Any]
    checked: bool = False


# What the files are.


def _table(r: random.Random) -> pd.DataFrame:
    names = ["FP134", "INT8", "FP125", "BM43", "NA"]
    return pd.DataFrame(
        {
            "rank": range(1, 6),
            "name": names,
            "bits": pd.array([8, 8, 8, 8, None], "Int64"),
            "family": ["FP", "INT", "FP", "BM", "custom"],
            "profile": ["5x7,4,3,2,1", "7,6,5,4,3,2,1", "6", "4", ""],
            "angle_AE": [r.random() for _ in names],
            "low_AE": [0.1] * 5,
            "high_AE": [1.5] * 5,
            "source_AE": ["measured"] * 5,
        }
    )


def _result(ending: str, with_sidecar: bool) -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        path = folder / f"ranking{ending}"
        results.write(_table(r), path, {"by": "AE"})
        if not with_sidecar:
            results.sidecar_of(path).unlink()
        return path

    return Kind(make, lambda path: results.read(path, ("name", "angle_AE")).to_csv(), with_sidecar)


def _sidecar() -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        results.write(_table(r), folder / "ranking.csv", {"by": "AE", "formats": {"FP134": "ab"}})
        return folder / "ranking.csv.meta.json"

    def read(path: Path) -> str:
        table = path.with_name("ranking.csv")
        results.sidecar(table)
        return results.read(table).to_csv()

    return Kind(make, read)


def _tensors(r: random.Random) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(r.randrange(1 << 30))
    return {
        "a.weight": torch.randn(4, 8, generator=generator),
        "a.bias": torch.randn(8, generator=generator).half(),
        "n": torch.tensor(3),
    }


def _bits(tensors: Any) -> dict[str, Any]:
    found = {}
    for name, value in tensors.items():
        array = value.contiguous().numpy() if isinstance(value, torch.Tensor) else value
        found[name] = (array.dtype.str, array.shape, array.tobytes())
    return found


def _weights(name: str, save: Callable[[Any, Path], Any], checked: bool) -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        save(_tensors(r), folder / name)
        return folder / name

    return Kind(make, lambda path: _bits(read_state(path)), checked)


def _arrays(name: str, save: Callable[[Path, Any], Any], checked: bool) -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        generator = np.random.default_rng(r.randrange(1 << 30))
        arrays = {"x": generator.normal(size=(6, 5)).astype(np.float32), "y z": generator.normal(size=40)}
        save(folder / name, arrays)
        return folder / name

    return Kind(make, lambda path: _bits(read_tensors(path)), checked)


def _checkpoint() -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        state = {
            "step": 4,
            "epochs": [[1, 0.5, None]],
            "settings": {"seed": 0, "device": "cpu"},
            "groups": [{"lr": 0.1}],
        }
        checkpoint.write(folder / checkpoint.NAME, _tensors(r), state)
        return folder / checkpoint.NAME

    def read(path: Path) -> Any:
        tensors, state = checkpoint.read(path)
        return _bits(tensors), json.dumps(state)

    return Kind(make, read, checked=True)


CONTEXT = Context("w", "n", "l", "p", "t", "cpu", "", 1)


def _stored(number: int) -> Stored:
    sketch = np.full((2, BUCKETS), number, np.float32)
    return Stored(("a", "b"), np.arange(6.0).reshape(2, 3) + number, sketch, 0.5, 0.25)


def _store() -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        path = folder / "measurements.sqlite"
        with Store.open(path) as store:
            for number in range(4):
                stored = _stored(number)
                store.put(CONTEXT, "batch", [(f"format {number}", Effect.AE, stored)])
            store.put_record(CONTEXT, "batch", "check", b"kept")
        return path

    def read(path: Path) -> Any:
        """What is found has to be what was put; all may be lost, and all has to go on."""
        with Store.open(path) as store:
            for number in range(4):
                found = store.get(CONTEXT, "batch", [f"format {number}"], [Effect.AE])
                for stored in found.values():
                    if stored.to_bytes() != _stored(number).to_bytes():
                        return "another measurement"
            if store.get_record(CONTEXT, "batch", "check", bytes) not in (b"kept", None):
                return "another record"
            store.put(CONTEXT, "batch", [("new", Effect.E, _stored(9))])
            store.info()
            store.clear()
        return "right, or forgotten"

    return Kind(make, read, checked=True)


TOML = """
["best for errors"]
profile = "5x2,6,5x2,4x2,3x3,2,1"
bits = 8
[blocks]
exponent_bits = 3
fraction_bits = 3
scale = { per = "block", block = 32, policy = "rceil" }
[fixed]
exponent_bits = 2
fraction_bits = 1
bias = 1
[quarters]
codebook = [0, 0.25, 0.5, 1.0, 2.0, 4.0]
signed = true
"""


def _toml() -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        (folder / "own.toml").write_text(TOML)
        return folder / "own.toml"

    def read(path: Path) -> Any:
        x = np.linspace(-9, 9, 64, dtype=np.float32)
        return [(f.name, f.digest, f.round(x).tobytes()) for f in formats.load_formats(path)]

    return Kind(make, read)


def _pixels(images: Any) -> list[Any]:
    return [np.asarray(images.read(number)).tobytes() for number in range(len(images.labels))]


def _picture(ending: str, **options: Any) -> Callable[[random.Random], bytes]:
    def encode(r: random.Random) -> bytes:
        pixels = np.random.default_rng(r.randrange(1 << 30)).integers(0, 256, (12, 10, 3), np.uint8)
        mode = options.get("mode", "RGB")
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257 if mode == "I;16" else pixels)
        content = io.BytesIO()
        (image if mode == "I;16" else image.convert(mode)).save(content, ending)
        return content.getvalue()

    return encode


def _image(name: str, encode: Callable[[random.Random], bytes], checked: bool = False) -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        own = [encode(r), encode(random.Random(0))]
        for number, (part, content) in enumerate(zip("ab", own, strict=True)):
            (folder / "set" / part).mkdir(parents=True, exist_ok=True)
            (folder / "set" / part / f"{number}_{name}").write_bytes(content)
        return folder / "set" / "a" / f"0_{name}"

    def read(path: Path) -> Any:
        found = read_folder("set", path.parents[1])
        return found.classes, found.train.labels.tolist(), _pixels(found.train)

    return Kind(make, read, checked)


def _zip(method: int) -> Kind:
    encode = _picture("PNG")

    def make(folder: Path, r: random.Random) -> Path:
        with zipfile.ZipFile(folder / "set.zip", "w", method) as archive:
            for number in range(6):
                archive.writestr(f"{'ab'[number % 2]}/{number}.png", encode(r))
        return folder / "set.zip"

    def read(path: Path) -> Any:
        found = read_folder("set", path)
        return _pixels(found.train)

    return Kind(make, read, checked=True)


def _cifar() -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        import pickle

        layout, place = LAYOUTS["cifar10"], folder / "cifar"
        place.mkdir(exist_ok=True)
        for file in (*layout.train, layout.test):
            pixels = np.random.default_rng(r.randrange(1 << 30)).integers(0, 256, (3, 3072), np.uint8)
            (place / file).write_bytes(pickle.dumps({b"data": pixels, b"labels": [1, 2, 3]}, r.choice([2, 4])))
        names = [f"class {number}".encode() for number in range(10)]
        (place / layout.names).write_bytes(pickle.dumps({b"label_names": names}, 2))
        return place / r.choice([*layout.train, layout.test, layout.names])

    def read(path: Path) -> Any:
        found = read_cifar("cifar10", path.parent)
        return found.classes, found.train.labels.tolist(), found.train.pixels.tobytes()

    return Kind(make, read)


def _run(name: str) -> Kind:
    def make(folder: Path, r: random.Random) -> Path:
        settings = {"workload": "net", "weight": "LOG4", "weight_rounding": "hysteresis", "method": None, "seed": 0}
        (folder / "settings.json").write_text(json.dumps(settings, indent=1))
        pd.DataFrame({"step": range(8), "flip_rate": np.arange(8) / 16}).to_parquet(folder / "steps.parquet")
        return folder / name

    return Kind(make, lambda path: runs.read_flips([path.parent])[0].to_csv())


KINDS: dict[str, Kind] = {
    "csv": _result(".csv", True),
    "json": _result(".json", True),
    "parquet": _result(".parquet", True),
    "csv without sidecar": _result(".csv", False),
    "json without sidecar": _result(".json", False),
    "parquet without sidecar": _result(".parquet", False),
    "sidecar": _sidecar(),
    "weights .safetensors": _weights("w.safetensors", save_file, False),
    "weights .pth": _weights("w.pth", torch.save, True),
    "weights .pth, old": _weights(
        "w.pth", lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False), False
    ),
    "tensors .npz": _arrays("t.npz", lambda path, arrays: np.savez(path, **arrays), True),
    "tensors .npz, deflated": _arrays("t.npz", lambda path, arrays: np.savez_compressed(path, **arrays), True),
    "tensors .npy": _arrays("t.npy", lambda path, arrays: np.save(path, arrays["x"]), False),
    "tensors .safetensors": _arrays(
        "t.safetensors",
        lambda path, arrays: save_file({name: torch.from_numpy(value) for name, value in arrays.items()}, path),
        False,
    ),
    "checkpoint": _checkpoint(),
    "store": _store(),
    "toml": _toml(),
    "zip, deflated": _zip(zipfile.ZIP_DEFLATED),
    "zip, stored": _zip(zipfile.ZIP_STORED),
    "png": _image("x.png", _picture("PNG"), checked=True),
    "png of 16 bits": _image("x.png", _picture("PNG", mode="I;16"), checked=True),
    "jpeg": _image("x.jpg", _picture("JPEG")),
    "bmp": _image("x.bmp", _picture("BMP")),
    "webp": _image("x.webp", _picture("WEBP")),
    "ppm": _image("x.ppm", _picture("PPM")),
    "cifar": _cifar(),
    "settings of a run": _run("settings.json"),
    "steps of a run": _run("steps.parquet"),
}


# What is done to them.


def damaged(content: bytes, other: bytes, r: random.Random) -> bytes:
    """A file's bytes after one to three damages; other: those of another file of its kind."""
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        content = r.choice(DAMAGES)(content, other, r)
    return content


def _flip(content: bytes, other: bytes, r: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(r.choice([1, 1, 2, 8])):
        if made:
            made[r.randrange(len(made))] ^= 1 << r.randrange(8)
    return bytes(made)


def _cut(content: bytes, other: bytes, r: random.Random) -> bytes:
    return content[: r.randrange(len(content) + 1)]


def _put_in(content: bytes, other: bytes, r: random.Random) -> bytes:
    at = r.randrange(len(content) + 1)
    return content[:at] + r.randbytes(r.choice([1, 2, 7, 64])) + content[at:]


def _zeros(content: bytes, other: bytes, r: random.Random) -> bytes:
    at, length = r.randrange(len(content) + 1), r.choice([1, 8, 64])
    return content[:at] + bytes([r.choice([0, 255])]) * len(content[at : at + length]) + content[at + length :]


def _splice(content: bytes, other: bytes, r: random.Random) -> bytes:
    at, length = r.randrange(len(content) + 1), r.choice([4, 16, 128, 1 << 20])
    return content[:at] + other[at : at + length] + content[at + length :]


def _left_out(content: bytes, other: bytes, r: random.Random) -> bytes:
    at = r.randrange(len(content) + 1)
    return content[:at] + content[at + r.choice([1, 4, 32]) :]


def _edit(content: bytes, other: bytes, r: random.Random) -> bytes:
    """A number somewhere in it becomes something odd, or a line comes twice or not at all."""
    lines = content.split(b"\n")
    if r.random() < 0.3 and len(lines) > 2:
        at = r.randrange(len(lines))
        return b"\n".join(lines[:at] + r.choice([[], [lines[at]] * 2]) + lines[at + 1 :])
    found = list(NUMBER.finditer(content))
    if not found:
        return _flip(content, other, r)
    match = r.choice(found)
    return content[: match.start()] + r.choice(ODD) + content[match.end() :]


DAMAGES = (_flip, _flip, _cut, _put_in, _zeros, _splice, _left_out, _edit)


# What comes of it.


def verdict(kind: Kind, path: Path, held: Any, others: Any) -> str:
    """ "right", "refused", "another" (where no checksum tells, or it is the other file by now), or what is wrong."""
    try:
        found = kind.read(path)
    except (ValueError, OSError) as error:
        text = str(error)
        if "\n" in text or not text:
            return f"WRONG: an error of {text.count(chr(10)) + 1} lines: {text[:200]!r}"
        return "refused"
    except Exception as error:
        return f"WRONG: {type(error).__name__}: {str(error)[:200]!r}"
    if found == held:
        return "right"
    if kind.checked and found != others:
        return "WRONG: another value, against its checksum"
    return "another"


@dataclass(frozen=True)
class Original:
    """An undamaged file: the files of its folder, which of them is damaged, and the value that it holds."""

    files: dict[str, bytes]
    target: str
    held: Any

    def restore(self, folder: Path) -> Path:
        """Write them into an empty folder; the path of the target."""
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.target


@cache
def original(name: str, variant: int) -> Original:
    """One of a few files of a kind."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        target = KINDS[name].make(folder, random.Random(f"{name} {variant}"))
        files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        return Original(files, str(target.relative_to(folder)), KINDS[name].read(target))


def one(name: str, seed: int, folder: Path) -> str:
    """The verdict of one file, damaged by a seed."""
    r = random.Random(f"{name} {seed}")
    own, other = (original(name, (seed + k) % VARIANTS) for k in (0, 1))
    path = own.restore(folder)
    content = damaged(own.files[own.target], other.files[other.target], r)
    path.write_bytes(content)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return verdict(KINDS[name], path, own.held, other.held)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _late(*_: object) -> None:
    raise BaseTimeout


class BaseTimeout(BaseException):
    """Not caught by what catches errors."""


def block(name: str, seeds: Sequence[int], folder: Path) -> list[str]:
    """The verdicts of some files, in a child process of limited memory; the one that ends it is its own verdict."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with os.fdopen(writing, "w", buffering=1) as said, open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            signal.signal(signal.SIGALRM, _late)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            os.fsync = lambda handle: None  # not what is tried here
            for seed in seeds:
                try:
                    found = one(name, seed, folder)
                except BaseTimeout:
                    found = f"WRONG: no end in {SECONDS} s"
                said.write(json.dumps(found) + "\n")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        verdicts = [json.loads(line) for line in said if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    if len(verdicts) < len(seeds):
        verdicts.append(f"WRONG: the process ended by {os.waitstatus_to_exitcode(status)}")
        verdicts += block(name, seeds[len(verdicts) :], folder) if len(verdicts) < len(seeds) else []
    return verdicts


def main(
    count: Annotated[int, typer.Option(help="files of each kind")] = 10_000,
    seed: Annotated[int, typer.Option(help="of the first")] = 0,
    kinds: Annotated[str, typer.Option(help="semicolon-separated names; by default all")] = "",
) -> None:
    torch.set_num_threads(1)
    wrong = 0
    folder = Path(tempfile.mkdtemp(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None)) / "files"
    for name in kinds.split(";") if kinds else KINDS:
        for variant in range(VARIANTS):
            original(name, variant)  # once, for all child processes
        outcomes: Counter[str] = Counter()
        for first in range(seed, seed + count, BLOCK):
            seeds = range(first, min(first + BLOCK, seed + count))
            for number, found in zip(seeds, block(name, seeds, folder), strict=True):
                outcomes[found.partition(":")[0]] += 1
                if found.startswith("WRONG"):
                    print(f"{name}, seed {number}: {found}", flush=True)
        wrong += outcomes["WRONG"]
        print(f"{name}: seeds {seed} to {seed + count - 1}: {dict(sorted(outcomes.items()))}", flush=True)
    shutil.rmtree(folder.parent)
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
