"""Classified images from folders and archives, and mini-batches of them. Needs Pillow (the extras `torchvision` and
`timm` bring it)."""

from __future__ import annotations

import importlib.util
import io
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from numeric_formats.damage import archive_of, reading
from numeric_formats.messages import printable

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev")
"""Names of parts, in any case; of several for testing, the first is taken."""
LARGEST = 1 << 30
"""Bytes of an image file; a few bytes of an archive can claim more than a machine has."""
KEPT = 16
"""Mini-batches whose pixels are kept, as bytes: as many as a ranking goes through again and again."""


class Images(Protocol):
    """Images with labels. labels: (N,) int64, the class of each. read: one of them."""

    @property
    def labels(self) -> NDArray[np.int64]: ...

    def read(self, number: int) -> Image: ...


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files of a folder or a zip archive. names: inside it, with /."""

    place: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]

    @cached_property
    def _archive(self) -> zipfile.ZipFile | None:
        return None if self.place.is_dir() else zipfile.ZipFile(self.place)

    def read(self, number: int) -> Image:
        """One image; ValueError where the file is none that Pillow can read."""
        from PIL import Image

        name = self.names[number]
        with reading(f"{self.place}: {printable(name)}", "an image"):
            content = self._content(name)
            image = Image.open(io.BytesIO(content))
            if image.format == "PNG":
                # All checksums: to decode, Pillow is content with a file whose end is missing.
                image.verify()
                image = Image.open(io.BytesIO(content))
            return _eight_bits(image)

    def _content(self, name: str) -> bytes:
        """Of one file; ValueError for a pipe or a device, which may have no end, and for more than an image has."""
        file = self.place / name
        if self._archive is not None:
            size = self._archive.getinfo(name).file_size
        elif file.is_file():
            size = file.stat().st_size
        else:
            raise ValueError("it is no file" if file.exists() else "it is a link to nothing, or unreadable")
        if size > LARGEST:
            raise ValueError(f"it has {size} bytes; up to {LARGEST} are read")
        return file.read_bytes() if self._archive is None else self._archive.read(name)


def _eight_bits(image: Image) -> Image:
    """An image as RGB. Greys of 16 bits are scaled: Pillow alone would cut them off at 255."""
    if image.mode.startswith("I;16"):
        from PIL import Image as images

        return images.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"it has pixels of mode {image.mode}, whose range is not said; 8 or 16 bits are needed")
    return image.convert("RGB")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set. name: as it was asked for. classes: their names, in the order of labels. test: None where the set has
    no such part."""

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images | None


def require_pillow() -> None:
    """ImportError where Pillow, which reads images, is not installed."""
    if importlib.util.find_spec("PIL") is None:
        raise ImportError("images need Pillow: pip install pillow, or the extra torchvision or timm of numeric-formats")


def _is_own(name: str) -> bool:
    """Whether a name is of the data set, and not of a system that has looked at it: hidden folders and files, and
    those of archives made on a Mac, of Synology and of notebooks."""
    return not any(part.startswith((".", "@", "__MACOSX")) or part in _SYSTEM for part in name.split("/"))


_SYSTEM = ("$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__")


def _walked(place: Path) -> Iterator[str]:
    """Names of files below a folder; a folder that links lead to again is gone through once."""
    seen = set()
    for folder, folders, files in os.walk(place, followlinks=True):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        for file in files:
            yield (Path(folder) / file).relative_to(place).as_posix()


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and _is_own(name)


def _check_name(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """BadZipFile where what is passed over has another name in the archive's directory than before its content, as an
    image may have come to be called something else; whether it can be read is all the same."""
    with suppress(RuntimeError, NotImplementedError), archive.open(entry):
        pass


def _listed(place: Path) -> list[str]:
    """Names of image files, with /, in order."""
    if place.is_dir():
        found = list(_walked(place))
    elif zipfile.is_zipfile(place):
        with reading(place, "a zip archive"), archive_of(place) as archive:
            found = archive.namelist()
            for entry in archive.infolist():
                if not _is_image(entry.filename):
                    _check_name(archive, entry)
    else:
        raise ValueError(
            f"images {place}: a folder or a zip archive is needed"
            + ("" if place.exists() else ", and there is nothing")
        )
    images = sorted(filter(_is_image, found))
    for name, following in pairwise(images):
        if name == following:
            raise ValueError(f"images {place}: {printable(name)} comes twice in it, and which one is meant is not said")
    return images


def _is_part(name: str) -> bool:
    """Whether a folder is a part of a data set by its name."""
    return name.lower() in TRAIN + TEST


def read_folder(name: str, place: Path) -> ImageSet:
    """Images laid out as CLASS/IMAGE, or as train/CLASS/IMAGE with test or val beside it, in a folder or a zip archive;
    classes are sorted by name.

    Folders around all of it are passed over. Raises ValueError where there are no images or the layout is another one.
    """
    require_pillow()
    paths = {entry: tuple(entry.split("/")) for entry in _listed(place)}
    if not paths:
        raise ValueError(
            f"{name}: no images; {', '.join(ENDINGS)} files are needed as CLASS/IMAGE or train/CLASS/IMAGE"
        )
    first = next(iter(paths.values()))[0]
    while not _is_part(first) and all(len(path) > 2 and path[0] == first for path in paths.values()):
        paths = {entry: path[1:] for entry, path in paths.items()}
        first = next(iter(paths.values()))[0]
    tops = {path[0] for path in paths.values()}
    in_parts = all(map(_is_part, tops))
    if not in_parts and any(_is_part(path[0]) and len(path) > 2 for path in paths.values()):
        split, other = (next(top for top in sorted(tops) if _is_part(top) is kind) for kind in (True, False))
        raise ValueError(f"{name}: {split} holds classes, and {other} lies beside it; is it a class, or a part?")
    if len(twice := [top for top in sorted(tops) if top.lower() in TRAIN]) > 1 and in_parts:
        raise ValueError(f"{name}: {' and '.join(twice)} are both for training")
    parts: dict[str, dict[str, str]] = {}
    for entry, path in paths.items():
        part, rest = (path[0], path[1:]) if in_parts else ("train", path)
        if len(rest) < 2:
            raise ValueError(f"{name}: {entry} is in no class; images are needed as CLASS/IMAGE or train/CLASS/IMAGE")
        parts.setdefault(part, {})[entry] = rest[0]
    [train, *others] = sorted(parts, key=lambda part: (TRAIN + TEST).index(part.lower()))
    classes = tuple(sorted(set(parts[train].values())))
    index = {entry: number for number, entry in enumerate(classes)}

    def images(part: str) -> ImageFiles:
        if unknown := sorted(set(parts[part].values()) - set(index)):
            raise ValueError(f"{name}: class {unknown[0]} of {part} is not in {train}")
        return ImageFiles(
            place, tuple(parts[part]), np.array([index[entry] for entry in parts[part].values()], np.int64)
        )

    return ImageSet(name, classes, images(train), images(others[0]) if others else None)


@dataclass(frozen=True)
class Preprocessing:
    """From an image to a network's input.

    mean, deviation: of the channels, for pixels in 0 to 1. resize: the shorter side in pixels, or height and width;
    None: as it is. crop: height and width of the middle that is kept; None: all. interpolation: of resizing, as Pillow
    names it, in any case.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"

    def pixels(self, image: Image) -> NDArray[np.uint8]:
        """Resized and cropped: (H, W, 3) uint8. Where an image is smaller than the crop, black is put around it."""
        from PIL import Image

        width, height = image.size
        if isinstance(self.resize, int):
            short = min(width, height)
            size = (self.resize * width // short, self.resize * height // short)
        else:
            size = image.size if self.resize is None else self.resize[::-1]
        if size != image.size:
            image = image.resize(size, Image.Resampling[self.interpolation.upper()])
        if self.crop is not None:
            left, upper = (round((have - want) / 2) for have, want in zip(image.size, self.crop[::-1], strict=True))
            image = image.crop((left, upper, left + self.crop[1], upper + self.crop[0]))
        return np.asarray(image)

    def to_input(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(N, H, W, 3) uint8 as (N, 3, H, W) float32, normalized, channels last, on which convolutions on the CPU are
        about twice as fast."""
        scaled = from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return (scaled - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.deviation)[:, None, None]


@dataclass(frozen=True, eq=False)
class Minibatches(Sequence[tuple[Tensor, Tensor]]):
    """Mini-batches (images, labels), each read when it is asked for. numbers: (mini-batches, size), which images each
    has."""

    reader: Reader
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Minibatches(self.reader, self.numbers[index])
        return self.reader.batch(tuple(self.numbers[index].tolist()))


class Reader:
    """Makes mini-batches of images; it keeps the pixels of the last few."""

    def __init__(self, images: Images, preprocessing: Preprocessing, name: str):
        self.images, self.preprocessing, self.name = images, preprocessing, name
        self._pixels = lru_cache(KEPT)(self._read)

    def _read(self, numbers: tuple[int, ...]) -> NDArray[np.uint8]:
        pixels = [self.preprocessing.pixels(self.images.read(number)) for number in numbers]
        if len(sizes := Counter(entry.shape for entry in pixels)) > 1:
            raise ValueError(
                f"{self.name}: images of different sizes, such as {' and '.join(map(str, list(sizes)[:2]))}, without a "
                "resize"
            )
        return np.stack(pixels)

    def batch(self, numbers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The images of these numbers (N, 3, H, W) float32 and their labels (N,) int64."""
        return self.preprocessing.to_input(self._pixels(numbers)), from_numpy(self.images.labels[list(numbers)])

    def train(self, size: int) -> Minibatches:
        """Mini-batches of an order drawn once for all (seed 0), since files lie class by class; what does not fill the
        last is left out."""
        count = len(self.images.labels)
        if count < size:
            raise ValueError(
                f"{self.name} has {count} images, fewer than a mini-batch of {size}; give a smaller batch size"
            )
        order = np.random.default_rng(0).permutation(count)
        return Minibatches(self, order[: count // size * size].reshape(-1, size))

    def test(self, size: int) -> Minibatches:
        """The same, of one mini-batch where there are fewer images than its size."""
        return self.train(max(1, min(size, len(self.images.labels))))
