"""Small image folders and published archives, made where a test needs them."""

import pickle
import tarfile

import numpy as np
from PIL import Image

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_folder(place, classes, count, size=(40, 32), seed=0, ending="png"):
    """`count` images (height, width) of noise in each class; the arrays by name."""
    random, written = np.random.default_rng(seed), {}
    for name in classes:
        (place / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(place / name / f"{number}.{ending}")
            written[f"{name}/{number}.{ending}"] = pixels
    return written


class AsPython2Wrote:
    """Pickles as an old numpy under Python 2 did an array: `align` as an integer, the module under its old name."""

    def __init__(self, array):
        self.array = array


class Pickler(pickle._Pickler):
    """The pure Python pickler, which can be told how."""

    def save(self, value, save_persistent_id=True):
        if isinstance(value, AsPython2Wrote):
            array = value.array
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n")
            super().save(array.shape)
            self.write(b"cnumpy\ndtype\n(U\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\n")
            self.write(b"T" + array.nbytes.to_bytes(4, "little") + array.tobytes() + b"tb")
        elif isinstance(value, bytes):  # the str of Python 2
            self.write(b"T" + len(value).to_bytes(4, "little") + value)
        else:
            super().save(value, save_persistent_id)


def _dump(value, path):
    with path.open("wb") as file:
        Pickler(file, 2).dump(value)


def write_cifar10(folder, each=4, seed=0):
    """The published layout with `each` images a file; pixels (N, 32, 32, 3) and labels of the five training files."""
    folder.mkdir()
    random, pixels, labels = np.random.default_rng(seed), [], []
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        rows = random.integers(0, 256, (each, 3072), np.uint8)
        own = random.integers(0, 10, each).tolist()
        _dump(
            {b"batch_label": b"x", b"labels": own, b"data": AsPython2Wrote(rows), b"filenames": [b"a.png"] * each},
            folder / name,
        )
        pixels.append(rows.reshape(each, 3, 32, 32).transpose(0, 2, 3, 1))
        labels += own
    _dump({b"num_cases_per_batch": each, b"label_names": [name.encode() for name in CIFAR10]}, folder / "batches.meta")
    return np.concatenate(pixels[:5]), labels[: 5 * each]


def write_cifar100(archive, folder, each=6):
    """The published archive, written by a newer Python; names of all 100 classes are numbers."""
    folder.mkdir()
    rows = np.arange(each * 3072, dtype=np.uint64).astype(np.uint8).reshape(each, 3072)
    for name in ("train", "test"):
        content = {b"fine_labels": list(range(90, 90 + each)), b"coarse_labels": [1] * each, b"data": rows}
        (folder / name).write_bytes(pickle.dumps(content, 2))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [f"{n:03}".encode() for n in range(100)]}, 2))
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, "cifar-100-python")
