"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 pixels in 10 or 100 classes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the layout "CIFAR-10 / CIFAR-100
python version" of its page.
"""

from __future__ import annotations

import io
import pickle
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from numeric_formats.damage import reading
from numeric_formats.messages import one_line
from workloads.data.download import find
from workloads.data.images import ImageSet, read_folder, require_pillow

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 1 << 28
"""Bytes of a member of the archive; the published ones have 31 and 155 million."""
PUBLIC_ADDRESS = "https://www.cs.toronto.edu/~kriz"


@dataclass(frozen=True)
class Layout:
    """Where a published archive keeps what: files of training and test images, and in the last the names of the
    classes."""

    archive: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    labels: str
    classes_key: str
    classes: int


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        "batches.meta",
        "labels",
        "label_names",
        10,
    ),
    "cifar100": Layout(
        "cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-python",
        ("train",),
        "test",
        "meta",
        "fine_labels",
        "fine_label_names",
        100,
    ),
}


class _Type:
    """A pickled dtype of numbers. Its state, which numpy would believe, is not looked at."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        code = code.decode("latin-1") if isinstance(code, bytes) else code  # as Python 2 wrote it
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[iuf][1248]", code):
            raise pickle.UnpicklingError(f"it has an array of {code!r}, which no file of numbers needs")
        self.type = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or state[3:5] != (None, None):
            raise pickle.UnpicklingError("it has an array of fields, which no file of numbers needs")
        if state[1] in (">", b">"):
            self.type = self.type.newbyteorder(">")


class _Array:
    """A pickled array, made here from its bytes, shape and type."""

    def __init__(self, kind: object = None, shape: object = None, code: object = None) -> None:
        self.values: NDArray[Any] = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, in_columns, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it has an array of no numbers")
        self.values = np.frombuffer(content, kind.type).reshape(tuple(shape), order="F" if in_columns else "C")


def _plain(value: Any) -> Any:
    """A value with its arrays as numpy has them."""
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode("latin-1")


class _Unpickler(pickle._Unpickler):
    """Reads plain values and arrays of numbers, and nothing that could run.

    In Python, since the compiled one makes room for as many values as a file of a few bytes claims.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: read for code, read in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _encoded,  # how Python 3 writes bytes for Python 2
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no file of numbers needs")
        return self.ALLOWED[module, name]


def _unpickled(content: bytes, where: str) -> dict[str, Any]:
    try:
        values = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else key: _plain(value) for key, value in values.items()}
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{where} is no file of CIFAR's python version ({one_line(error)})") from error


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images in memory. pixels: (N, 32, 32, 3) uint8; labels: (N,) int64."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def read(self, number: int) -> Image:
        """One image."""
        from PIL import Image

        return Image.fromarray(self.pixels[number])


def _pixels(contents: list[dict[str, Any]], layout: Layout, where: str) -> Pixels:
    try:
        rows = np.concatenate([content["data"] for content in contents])
        labels = np.concatenate([np.array(content[layout.labels], np.int64) for content in contents])
        pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    except Exception as error:  # of values of any kind
        raise ValueError(f"{where}: `data` of 3072 bytes an image and `{layout.labels}` are needed") from error
    if (
        rows.dtype != np.uint8
        or not len(labels)
        or len(labels) != len(pixels)
        or labels.min() < 0
        or labels.max() >= layout.classes
    ):
        raise ValueError(f"{where}: a byte a pixel and a label from 0 to {layout.classes - 1} an image are needed")
    return Pixels(np.ascontiguousarray(pixels), labels)


def _is_tar(place: Path) -> bool:
    """Also what cannot be looked into, such as a damaged compressed file, is none."""
    try:
        return tarfile.is_tarfile(place)
    except Exception:  # zlib's and lzma's own
        return False


def read_cifar(kind: str, place: Path | None) -> ImageSet:
    """CIFAR-10 ("cifar10") or CIFAR-100 ("cifar100", by its 100 fine labels).

    place: the published .tar.gz, its folder or one around it, or a folder or zip archive of image files by class; None:
    $FORMATS_DATA, the user's cache, or the public address. Raises ValueError for anything else, FileNotFoundError where
    it is nowhere.
    """
    require_pillow()
    layout = LAYOUTS[kind]
    name = kind if place is None else f"{kind}:{place}"
    if place is None:
        place = find(
            "CIFAR", layout.archive, PUBLIC_ADDRESS, remedy=f"give its place as {kind}:PATH or ", md5=layout.md5
        )
    wanted = (*layout.train, layout.test, layout.names)
    if place.is_dir():
        inside = [folder for folder in (place, place / layout.folder) if (folder / layout.test).is_file()]
        contents = {
            file: (folder / file).read_bytes() for folder in inside[:1] for file in wanted if (folder / file).is_file()
        }
    elif place.is_file() and _is_tar(place):
        with reading(place, "a tar archive"), tarfile.open(place) as archive:
            members = {
                Path(member.name).name: member for member in archive if member.isfile() and member.size <= LARGEST
            }
            contents = {
                file: read.read()
                for file in wanted
                if file in members and (read := archive.extractfile(members[file])) is not None
            }
    else:
        contents = {}
    if not contents:
        images = read_folder(name, place)
        if len(images.classes) != layout.classes:
            raise ValueError(f"{name} has {len(images.classes)} classes; {kind} has {layout.classes}")
        return images
    if absent := [file for file in wanted if file not in contents]:
        raise ValueError(f"{name} lacks {', '.join(absent)}")
    values = {file: _unpickled(contents[file], f"{name}: {file}") for file in wanted}
    with reading(f"{name}: {layout.names}", "names of classes"):
        classes = tuple(
            entry.decode() if isinstance(entry, bytes) else str(entry)
            for entry in values[layout.names].get(layout.classes_key, ())
        )
    if len(classes) != layout.classes:
        raise ValueError(f"{name}: {layout.names} names {len(classes)} classes; {kind} has {layout.classes}")
    return ImageSet(
        name,
        classes,
        _pixels([values[file] for file in layout.train], layout, name),
        _pixels([values[layout.test]], layout, name),
    )
