"""Situations of files: data sets, archives, weights, tensors, results, and runs that go on."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from benchmarks.situation.listing import (
    WRONG,
    Outcome,
    command,
    compared,
    refusal,
    right_or_refused,
    situation,
)
from reports import results
from search.fitting import read_tensors
from training import train
from training.calibration import AdaRound, quantize
from workloads import Workload
from workloads.data.cifar import read_cifar
from workloads.data.images import read_folder
from workloads.weights import read_state

MINE = """
import torch, torch.nn.functional as F
from torch import nn
from workloads import Workload

def of(forward=None, **parts):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3)
        def forward(self, x):
            return self.b(forward(self, self.a(x)) if forward else self.a(x))
    batch = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])
    return Workload("mine", Net(), [batch], lambda m, b: F.cross_entropy(m(b[0]), b[1]), train=[batch])

def net(): return of()
def fails(forward):
    def made(): return of(forward)
    return made
def _assert(net, x): assert False
def _zero(net, x): return x / 0 if 1 // 0 else x
def _todo(net, x): raise NotImplementedError
asserts, divides, misses = fails(_assert), fails(_zero), fails(_todo)
def meta():
    made = of()
    return Workload("mine", made.model.to("meta"), made.batches, made.loss)
def lazy():
    made = of()
    made.model.a = nn.LazyLinear(8)
    return Workload("mine", made.model, made.batches, made.loss, train=made.batches)
"""


def png(value: int = 100, size: int = 8) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(content, "PNG")
    return content.getvalue()


def archive(path: Path, names: list[str], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Images of these names; those of a Mac's own files hold no image."""
    with zipfile.ZipFile(path, "w", method) as file:
        for number, name in enumerate(names):
            file.writestr(name, b"\0\5\x16\7Mac OS X" if name.rsplit("/", 1)[-1].startswith("._") else png(number))
    return path


# 8: layouts of data.

SPLIT = ["train/cat/1.png", "train/dog/1.png", "test/cat/2.png", "test/dog/2.png"]
FLAT = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"]
LAYOUTS: dict[str, tuple[list[str], int, int | None]] = {
    "train and test": (SPLIT, 2, 2),
    "train, test and __MACOSX": ([*SPLIT, *(f"__MACOSX/{n.replace('/1', '/._1')}" for n in SPLIT)], 2, 2),
    "flat with __MACOSX": ([*FLAT, "__MACOSX/cat/._1.png", "__MACOSX/dog/._1.png"], 4, None),
    "wrapped with __MACOSX": ([f"set/{n}" for n in SPLIT] + ["__MACOSX/set/train/cat/._1.png"], 2, 2),
    "._ beside the pictures": ([*FLAT, "cat/._1.png"], 4, None),
    ".ipynb_checkpoints, @eaDir and .Trash": (
        [*FLAT, ".ipynb_checkpoints/1-c.png", "cat/.ipynb_checkpoints/1-c.png", "@eaDir/1.png", ".Trash/old.png"],
        4,
        None,
    ),
    "validation under its name val": ([n.replace("test", "val") for n in SPLIT], 2, 2),
    "splits as training and testing": (
        [n.replace("train", "training").replace("test", "testing") for n in SPLIT],
        2,
        2,
    ),
    "splits with capitals": ([n.replace("train", "Train").replace("test", "Test") for n in SPLIT], 2, 2),
}


def _layout(folder: Path, names: list[str], train_images: int, test_images: int | None, zipped: bool) -> Outcome:
    place = archive(folder / "set.zip", names)
    if not zipped:
        with zipfile.ZipFile(place) as file:
            file.extractall(folder / "set")
        place = folder / "set"

    def do() -> Outcome:
        found = read_folder("set", place)
        counts = len(found.train.labels), None if found.test is None else len(found.test.labels)
        for number in range(counts[0]):
            found.train.read(number)
        right = found.classes == ("cat", "dog") and counts == (train_images, test_images)
        return compared(("cat", "dog", train_images, test_images), (*found.classes, *counts), right)

    return right_or_refused(do, "train|class|split")


for _title, (_names, _train, _test) in LAYOUTS.items():
    for _zipped in (False, True):
        situation(f"images, {_title}, {'an archive' if _zipped else 'a folder'}")(
            lambda folder, n=_names, a=_train, b=_test, z=_zipped: _layout(folder, n, a, b, z)
        )


def _damaged_archive(damage: str) -> Callable[[Path], Outcome]:
    def check(folder: Path) -> Outcome:
        stored = damage == "a flipped byte, stored"
        place = archive(folder / "set.zip", FLAT, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
        content = bytearray(place.read_bytes())
        with zipfile.ZipFile(place) as file:
            member = file.infolist()[1]
        local, central = member.header_offset, content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)
        if damage.startswith("a flipped byte"):
            content[local + 30 + len(member.filename) + member.compress_size // 2] ^= 255
        elif damage == "encrypted":
            content[local + 6] |= 1
            content[central + 8] |= 1
        elif damage == "method 99":
            content[local + 8] = content[central + 10] = 99
        else:
            content = content[:-40]
        place.write_bytes(content)

        def read() -> object:
            found = read_folder("set", place)
            return [found.train.read(number) for number in range(len(found.train.labels))]

        return refusal(read, r"set\.zip")

    return check


for _damage in ("a flipped byte, deflated", "a flipped byte, stored", "encrypted", "method 99", "cut"):
    situation(f"a member of an archive, {_damage}")(_damaged_archive(_damage))


@situation("greys of 16 bits")
def _(folder: Path) -> Outcome:
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    (folder / "a").mkdir()
    Image.fromarray(ramp).save(folder / "a" / "1.png")
    found = np.asarray(read_folder("set", folder).train.read(0))[..., 0].astype(int)
    apart = np.abs(found - ramp.astype(int) // 257).max()
    return compared("the high byte, within 1", f"{apart} apart, mean {found.mean():.1f}", bool(apart <= 1))


@situation("folders with links into themselves")
def _(folder: Path) -> Outcome:
    for name in FLAT:
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set" / name).write_bytes(png())
    for name, target in (("loop", "."), ("up", ".."), ("other", "../dog")):
        (folder / "set" / "cat" / name).symlink_to(target)
    found = read_folder("set", folder / "set")
    return compared(("cat", "dog", 4), (*found.classes, len(found.train.labels)), len(found.train.labels) == 4)


@situation("a CIFAR pickle of pointers")
def _(folder: Path) -> Outcome:
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    made = io.BytesIO()
    pickler = pickle._Pickler(made, 2)  # type: ignore[attr-defined]
    pickler.proto = 2
    made.write(b"\x80\x02}U\x06labelscnumpy\ndtype\n")
    pickler.save(("V8", False, True))
    made.write(b"R")
    pickler.save((4, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))
    made.write(b"bs.")
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"):
        (place / name).write_bytes(made.getvalue())
    return refusal(lambda: read_cifar("cifar10", folder), "data_batch_1")


# Weights and tensors.

STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
WEIGHTS: dict[str, Any] = {
    "of no bytes": b"",
    "of random bytes": bytes(np.random.default_rng(0).integers(0, 256, 500, np.uint8)),
    "of text": b"no weights at all\n",
    "sparse": torch.eye(3).to_sparse(),
    "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "on the meta device": torch.zeros(3, device="meta"),
    "complex": torch.ones(3, dtype=torch.complex64),
    "of 2^40 elements by a stride of 0": torch.zeros(1).half().as_strided((1 << 20, 1 << 20), (0, 0)),
}
for _title, _content in WEIGHTS.items():

    def _weights(folder: Path, content: Any = _content) -> Outcome:
        path = folder / "w.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(STATE | {"a.weight": content}, path)
        return refusal(lambda: read_state(path), r"w\.pth")

    situation(f"weights {_title}")(_weights)


@situation("whole numbers as weights")
def _(folder: Path) -> Outcome:
    from workloads.weights import fill

    torch.save({"weight": torch.ones(2, 3, dtype=torch.int64), "bias": torch.zeros(2)}, folder / "w.pth")
    return refusal(lambda: fill(nn.Linear(3, 2), folder / "w.pth", "net"), "weight is of torch.int64")


def _npy(shape: object, content: bytes = b"") -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


def _npz(*members: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return made.getvalue()


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


TENSORS: dict[str, tuple[str, bytes]] = {
    "an .npz with a broken stream": ("npz", _flipped(_npz(("a.npy", _npy((40,), bytes(range(160))))), 60)),
    "an .npz of an unknown method": ("npz", _npz(("a.npy", _npy((1,), bytes(4)))).replace(b"\x08\x00", b"\x63\x00")),
    "an .npy whose header does not end": ("npy", _npy((2,), bytes(8)).replace(b"}", b"(")),
    "an .npy of 2^45 elements": ("npy", _npy((1 << 45,))),
    "an .npz of 2^45 elements": ("npz", _npz(("a.npy", _npy((1 << 45,))))),
    "an .npz with a member that is no array": ("npz", _npz(("a.npy", _npy((1,), bytes(4))), ("b", b"no array"))),
}
for _title, (_ending, _bytes) in TENSORS.items():

    def _tensors(folder: Path, ending: str = _ending, content: bytes = _bytes) -> Outcome:
        (folder / f"t.{ending}").write_bytes(content)
        return refusal(lambda: read_tensors(folder / f"t.{ending}"), rf"t\.{ending}")

    situation(f"tensors of {_title}")(_tensors)


def _of_types(kind: str) -> Callable[[Path], Outcome]:
    def check(folder: Path) -> Outcome:
        values = np.linspace(-3, 3, 64).astype(np.float32)
        path = folder / "t.npz"
        if kind in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            import ml_dtypes

            narrow = values.astype(getattr(ml_dtypes, kind))
            np.savez(path, a=narrow)
            expected = narrow.astype(np.float32)
        elif kind == "floats beside a counter":
            np.savez(path, a=values, step=np.int64(5))
            expected = values
        elif kind == "complex64":
            np.savez(path, a=np.ones(4, np.complex64))
            return refusal(lambda: read_tensors(path), "'a'")
        else:
            np.savez(path, a=values.astype(kind))
            expected = values.astype(kind).astype(np.float32)

        def do() -> Outcome:
            found = read_tensors(path)["a"].numpy()
            return compared(expected[:3].tolist(), found[:3].tolist(), np.array_equal(found, expected))

        return right_or_refused(do, "'a'|f1|V1|V2|bfloat16|float8|'step'")

    return check


for _kind in (
    *("bfloat16", "float8_e4m3fn", "float8_e5m2", "float16"),
    "float64",
    "complex64",
    "floats beside a counter",
):
    situation(f"an .npz of {_kind}")(_of_types(_kind))


# Rankings.


def ranking(folder: Path, **changed: Any) -> Path:
    table = pd.DataFrame(
        {
            "rank": [1, 2, 3],
            "name": ["FP134", "INT8", "FP125"],
            "bits": [8, 8, 8],
            "family": ["FP", "INT", "FP"],
            "profile": ["5x7,4,3,2,1", "7,6,5,4,3,2,1", "6x3"],
            "angle_AE": [0.5, 1.0, 2.0],
            "low_AE": [0.4, 0.9, 1.9],
            "high_AE": [0.6, 1.1, 2.1],
            "source_AE": ["measured"] * 3,
        }
    )
    table = table.assign(**{name: value for name, value in changed.items() if value is not None})
    table.drop(columns=[name for name, value in changed.items() if value is None]).to_csv(folder / "r.csv", index=False)
    (folder / "mine.py").write_text(MINE)
    return folder / "r.csv"


for _column in ("low_AE", "high_AE", "source_AE", "rank", "name", "angle_AE"):

    def _without(folder: Path, column: str = _column) -> Outcome:
        ranking(folder, **{column: None})
        return command(folder, "report", "r.csv", words=r"r\.csv has no")

    situation(f"report of a ranking without {_column}")(_without)


@situation("validate of a ranking with no bits")
def _(folder: Path) -> Outcome:
    ranking(folder, bits=[None] * 3)
    given = ("-m", "mine.py:net", "-o", "v", "--count", "3", "--seeds", "1", "--epochs", "1")
    return command(folder, "validate", "r.csv", *given, words="0 of the ranking have bits")


for _name, _column in (("rank", [1, 2, np.inf]), ("bits", [8, np.inf, 8]), ("name", ["FP134", np.inf, "INT8"])):

    def _infinite(folder: Path, name: str = _name, column: Any = _column) -> Outcome:
        ranking(folder, **{name: column})
        if name == "name":  # a text like any other
            done = results.read(folder / "r.csv")["name"].tolist()
            return compared(["FP134", "inf", "INT8"], done, done == ["FP134", "inf", "INT8"])
        return command(folder, "report", "r.csv", words=f"inf stands in column {name}")

    situation(f"an infinite {_name} in a ranking")(_infinite)


@situation("a ranking whose name is a file of code")
def _(folder: Path) -> Outcome:
    ranking(folder, name=["evil.py", "INT8", "FP125"])
    (folder / "evil.py").write_text("import pathlib; pathlib.Path('PWNED').write_text('x')\n")
    given = ("-m", "mine.py:net", "-o", "v", "--count", "3", "--seeds", "1", "--epochs", "1")
    outcome = command(folder, "validate", "r.csv", *given, words="evil.py")
    return outcome if not (folder / "PWNED").exists() else Outcome("no code is run", "it ran", WRONG)


@situation("a ranking whose column is a script")
def _(folder: Path) -> Outcome:
    column = 'angle_x"><script>document.title="XSS"</script><b a="'
    ranking(folder, **{column: [1, 2, 3]})
    from reports.page import html

    html.write(folder / "r.csv", folder / "r.html")
    found = "document.title" in (folder / "r.html").read_text()
    return compared("no such script in the page", "it is there" if found else "it is not", not found)


@situation("names that would steer the terminal")
def _(folder: Path) -> Outcome:
    ranking(folder, name=["\x1b[31mred", "INT8", "FP125"])
    return command(folder, "plot", "r.csv", "--kind", "top", words=r"\\x1b\[31mred")


# The command line over networks of a user's.

for _name in ("asserts", "divides", "misses"):
    for _what in (("rank", "--no-store"), ("train", "--epochs", "1"), ("points",)):

        def _fails(folder: Path, name: str = _name, what: tuple[str, ...] = _what) -> Outcome:
            (folder / "mine.py").write_text(MINE)
            given = (*what, "-f", "FP134") if what[0] == "rank" else what
            return command(folder, *given, "-m", f"mine.py:{name}", words=r"mine\.py, line \d+")

        situation(f"a forward pass that {_name}, in {_what[0]}")(_fails)

for _name, _words in (("meta", "meta device"), ("lazy", "has no shape yet")):

    def _empty(folder: Path, name: str = _name, words: str = _words) -> Outcome:
        (folder / "mine.py").write_text(MINE)
        return command(folder, "train", "-m", f"mine.py:{name}", "--epochs", "1", words=words)

    situation(f"a network that is {_name}, in train")(_empty)


@situation("vectors MXFP4")
def _(folder: Path) -> Outcome:
    return command(folder, "vectors", "MXFP4", "-o", "d", words="MXFP4")


# What is resumed is what was begun.


def small(seed: int = 0, data: int = 0) -> Workload:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    r = torch.Generator().manual_seed(data)
    batches = [(torch.randn(6, 8, generator=r), torch.randint(0, 3, (6,), generator=r)) for _ in range(3)]
    loss = lambda m, b: F.cross_entropy(m(b[0]), b[1])  # noqa: E731
    return Workload("small", model, batches, loss, train=batches)


QUICK: dict[str, Any] = {
    **{"adaround": AdaRound(iterations=20), "equalize": False, "absorb": "off"},
    **{"rank_layers": False, "minibatches": 3},
}


def _losses(work: Workload, folder: Path, **options: Any) -> float:
    return quantize(work, "INT4", "float32", output=folder, **{**QUICK, **options}).steps[-1].loss


@situation("AdaRound's finished layers, exchanged")
def _(folder: Path) -> Outcome:
    expected = _losses(small(), folder / "q")
    first, second = (folder / "q" / "adaround" / f"{number:04d}.safetensors" for number in (0, 1))
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])

    def do() -> Outcome:
        found = _losses(small(), folder / "q", resume=True)
        return compared(expected, found, found == expected)

    return right_or_refused(do, "adaround")


@situation("quantize resumed with other data")
def _(folder: Path) -> Outcome:
    _losses(small(), folder / "q")
    return refusal(lambda: _losses(small(data=1), folder / "q", resume=True), "data|mini-batch|batch")


@situation("quantize --force with other weights over layers that are there")
def _(folder: Path) -> Outcome:
    _losses(small(), folder / "q")
    expected = quantize(small(), "INT3", "float32", **QUICK).steps[-1].loss
    found = quantize(small(), "INT3", "float32", output=folder / "q", force=True, **QUICK).steps[-1].loss
    return compared(expected, found, found == expected)


def _trained(folder: Path, data: int = 0, **options: Any) -> Any:
    return train(small(data=data), epochs=2, start="pretrained", rate=0.01, output=folder, **options)


def _rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change a checkpoint's tensors and state, and write it as safetensors does."""
    with safe_open(path, "pt") as file:
        checksum, _, text = file.metadata()["state"].partition(" ")
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    state = json.loads(text)
    change(tensors, state)
    save_file(tensors, path, {"state": f"{checksum} {json.dumps(state)}"})


def _flip(tensors: dict[str, Any], state: dict[str, Any]) -> None:
    name = next(name for name in tensors if name.startswith("master."))
    tensors[name].view(torch.int32).flatten()[0] ^= 1 << 20


def _drop_optimizer(tensors: dict[str, Any], state: dict[str, Any]) -> None:
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        del tensors[name]


def _edit(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(tensors: dict[str, Any], state: dict[str, Any]) -> None:
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value

    return change


EDITS = {
    "a flipped bit": _flip,
    "no optimizer": _drop_optimizer,
    **{
        f"{key} {'missing' if value is None else value!r}": _edit(key, value)
        for key in ("step", "epochs", "settings", "groups", "schedule", "tops", "stream")
        for value in (None, "a text")
    },
    "step -3": _edit("step", -3),
}
for _title, _change in EDITS.items():

    def _checkpoint(folder: Path, change: Any = _change) -> Outcome:
        _trained(folder / "t", checkpoint_every=1)
        before = sorted(str(path) for path in (folder / "t").rglob("*"))
        _rewritten(folder / "t" / "checkpoint.safetensors", change)
        outcome = refusal(lambda: _trained(folder / "t", checkpoint_every=1, resume=True), "checkpoint.safetensors")
        lost = set(before) - {str(path) for path in (folder / "t").rglob("*")}
        return outcome if not lost else Outcome("nothing is deleted", f"gone: {len(lost)} files", WRONG)

    situation(f"a checkpoint of training with {_title}")(_checkpoint)


@situation("training resumed with other data behind the first mini-batch")
def _(folder: Path) -> Outcome:
    _trained(folder / "t")
    work = small()
    changed = [work.batches[0], *((x + 1, y) for x, y in list(work.batches)[1:])]
    other = Workload("small", work.model, changed, work.loss, train=changed)

    def do() -> object:
        return train(other, epochs=2, start="pretrained", rate=0.01, output=folder / "t", resume=True)

    return refusal(do, "data|mini-batch|batch")
