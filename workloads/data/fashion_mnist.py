"""Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 grey pixels in ten classes.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv:1708.07747. MIT licence.
"""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from numeric_formats.files import write_atomically
from workloads.data.download import find

MEAN, DEVIATION = 0.2860, 0.3530
PUBLIC_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
BUNDLED = Path(__file__).parents[1] / "bundled" / "fashion_mnist.npz"
BUNDLED_TRAIN, BUNDLED_TEST = 12_800, 2_000


def _read_idx(path: Path) -> NDArray[np.uint8]:
    with gzip.open(path, "rb") as file:
        data = file.read()
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of bytes")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(
            f"{path} is cut short: {values.size} bytes where its header says {' x '.join(map(str, shape))}"
        )
    return values.reshape(shape)


def _file(name: str) -> Path:
    """The first place that holds the file: $FORMATS_DATA, Debian's package, the user's cache; else the public
    address."""
    remedy = "install Debian's dataset-fashion-mnist or "
    return find("Fashion-MNIST", name, PUBLIC_ADDRESS, folders=[DEBIAN_FOLDER], remedy=remedy)


def read_full() -> dict[str, NDArray[np.uint8]]:
    """All images and labels: `train_images` (60000, 28, 28), `train_labels` (60000,), `test_images`, `test_labels`."""
    return {
        "train_images": _read_idx(_file("train-images-idx3-ubyte.gz")),
        "train_labels": _read_idx(_file("train-labels-idx1-ubyte.gz")),
        "test_images": _read_idx(_file("t10k-images-idx3-ubyte.gz")),
        "test_labels": _read_idx(_file("t10k-labels-idx1-ubyte.gz")),
    }


def read_bundled() -> dict[str, NDArray[np.uint8]]:
    """The first 12,800 training and 2,000 test images, in the same form, from the file that comes with the package."""
    with np.load(BUNDLED) as file:
        return {name: file[name] for name in file.files}


def write_bundled() -> None:
    """Make the bundled file from the full data set."""
    full = read_full()
    counts = {"train": BUNDLED_TRAIN, "test": BUNDLED_TEST}
    parts = {name: values[: counts[name.split("_")[0]]] for name, values in full.items()}
    write_atomically(BUNDLED, lambda file: np.savez_compressed(file, allow_pickle=False, **parts))


def to_input(images: NDArray[np.uint8]) -> Tensor:
    """Images (N, 28, 28) uint8 as the network's input (N, 1, 28, 28) float32, normalized."""
    scaled = images[:, None].astype(np.float32) / np.float32(255)
    return from_numpy((scaled - np.float32(MEAN)) / np.float32(DEVIATION))


def to_target(labels: NDArray[np.uint8]) -> Tensor:
    """Labels (N,) uint8 as int64."""
    return from_numpy(labels.astype(np.int64))
