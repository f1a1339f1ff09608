"""Fashion-MNIST: the bundled part, and where the whole is looked for."""

import gzip
import struct

import numpy as np
import pytest
import torch

from workloads.data import fashion_mnist


def test_bundled_images_are_the_first_of_the_data_set():
    data = fashion_mnist.read_bundled()
    assert data["train_images"].shape == (12_800, 28, 28)
    assert data["test_images"].shape == (2_000, 28, 28)
    assert data["train_labels"][:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    x = fashion_mnist.to_input(data["train_images"])
    assert x.dtype is torch.float32
    assert abs(x.mean().item()) < 0.01
    assert abs(x.std().item() - 1) < 0.01


def test_data_folder_and_damaged_files(tmp_path, monkeypatch):
    def write(name, values):
        header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
        with gzip.open(tmp_path / name, "wb") as file:
            file.write(header + values.tobytes())

    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    for part in ("train", "t10k"):
        write(f"{part}-images-idx3-ubyte.gz", images)
        write(f"{part}-labels-idx1-ubyte.gz", np.uint8([3, 7]))
    monkeypatch.setenv("FORMATS_DATA", str(tmp_path))
    full = fashion_mnist.read_full()
    assert (full["test_images"] == images).all()
    assert full["train_labels"].tolist() == [3, 7]
    with gzip.open(tmp_path / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">BBBBI", 0, 0, 8, 1, 5) + b"\x01\x02")
    with pytest.raises(ValueError, match="cut short"):
        fashion_mnist.read_full()
    with gzip.open(tmp_path / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(b"no")
    with pytest.raises(ValueError, match="not an IDX file"):
        fashion_mnist.read_full()


def test_data_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("FORMATS_DATA", str(tmp_path))
    monkeypatch.delenv("FORMATS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(fashion_mnist, "PUBLIC_ADDRESS", (tmp_path / "gone").as_uri())
    with pytest.raises(FileNotFoundError, match="FORMATS_DATA"):
        fashion_mnist.read_full()
    served = tmp_path / "served"
    served.mkdir()
    with gzip.open(served / "x.gz", "wb") as file:
        file.write(struct.pack(">BBBBI", 0, 0, 8, 1, 2) + b"\x01\x02")
    monkeypatch.setattr(fashion_mnist, "PUBLIC_ADDRESS", served.as_uri())
    assert fashion_mnist._file("x.gz") == tmp_path / "cache" / "formats" / "fashion-mnist" / "x.gz"
