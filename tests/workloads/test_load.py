"""The bundled workload, a user's own, and the data set."""

import gzip
import struct
from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.pretrain.train import to_float16
from numeric_formats.files import write_atomically
from workloads import Workload, load
from workloads.bundled.networks import load_weights
from workloads.data import fashion_mnist
from workloads.digest import digest, weights_digest
from workloads.networks.resnet import resnet18, resnet20


def test_resnet18_is_full_width_and_reaches_its_accuracy():
    workload = load("resnet18")
    assert sum(p.numel() for p in workload.model.parameters()) == 11_172_810
    assert len(workload.minibatches(128)) == 100
    tests = workload.test(500)
    assert len(tests) == 4
    workload.model.eval()
    # All 10,000 test images: 0.9426 (benchmarks/pretrain_resnet18.txt); these are the first 2,000.
    assert np.mean([workload.metric(workload.model, batch) for batch in tests]) > 0.93


def test_resnet20_is_the_cifar_network_and_reaches_its_accuracy():
    workload = load("resnet20")
    assert sum(p.numel() for p in workload.model.parameters()) == 269_434
    workload.model.eval()
    # All 10,000 test images: 0.9366 (benchmarks/pretrain_resnet20.txt); these are the first 2,000.
    assert np.mean([workload.metric(workload.model, batch) for batch in workload.test(500)]) > 0.92


@pytest.mark.parametrize("name", ["resnet20", "lstm"])
def test_batches_larger_than_the_data(name):
    workload = load(name)
    assert workload.train(10**6) == []  # and not one without examples, whose loss is not a number
    [everything] = workload.test(10**6)
    assert len(everything[0]) == len(workload.test(1))
    with pytest.raises(ValueError, match="has no mini-batches of 1000000"):
        workload.minibatches(10**6)


def test_mobilenetv2_is_depthwise_and_reaches_its_accuracy():
    workload = load("mobilenetv2")
    assert sum(p.numel() for p in workload.model.parameters()) == 149_034
    depthwise = [m for m in workload.model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 8
    assert all(m.groups == m.in_channels == m.out_channels for m in depthwise)
    workload.model.eval()
    # All 10,000 test images: 0.9117 (benchmarks/pretrain_mobilenetv2.txt); these are the first 2,000.
    assert np.mean([workload.metric(workload.model, batch) for batch in workload.test(500)]) > 0.90


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


MINE = """
import torch
from torch import nn
from workloads import Workload
import beside

def net():
    data = [(torch.randn(4, 3), torch.randn(4, 2))]
    return Workload("mine", nn.Linear(3, 2), data, lambda m, b: (m(b[0]) - b[1]).square().mean())

def other():
    return beside.VALUE
"""


def test_a_file_and_a_module_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("VALUE = 3")
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert load(f"{tmp_path}/own_net.py:net").name == "mine"
    monkeypatch.chdir(tmp_path)
    assert load("own_net:net").source == "own_net:net"
    source = load("own_net.py:net").source
    assert source == f"{tmp_path}/own_net.py:net"
    monkeypatch.chdir("/")
    assert load(source).name == "mine"
    monkeypatch.chdir(tmp_path)
    for name, error, message in (
        ("own_net:other", TypeError, "returned int"),
        ("own_net:absent", ValueError, "has no function 'absent'; it defines net, other"),
        ("nowhere.at_all:f", ValueError, "cannot import nowhere"),
        ("nofile.py:f", ValueError, "there is no file nofile.py"),
        ("resnet81", ValueError, "did you mean resnet18"),
        ("vgg", ValueError, "Bundled: resnet18, resnet20, mobilenetv2"),
    ):
        with pytest.raises(error, match=message):
            load(name)


def test_workload_refuses_wrong_parts():
    model, batches = nn.Linear(2, 2), [torch.zeros(1, 2)]

    def loss(m, b):
        return m(b).sum()

    for arguments, message in (
        ((3, model, batches, loss), "name"),
        (("w", None, batches, loss), "Module"),
        (("w", model, 5, loss), "sequence of mini-batches"),
        (("w", model, batches, None), "function of"),
    ):
        with pytest.raises(TypeError, match=message):
            Workload(*arguments)
    with pytest.raises(ValueError, match="has no mini-batches"):
        Workload("w", model, [], loss).minibatches()
    with pytest.raises(ValueError, match="batch size 0"):
        Workload("w", model, lambda size: batches, loss).minibatches(0)


def test_weights_of_another_network_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file(to_float16(resnet20()), path)
    load_weights(resnet20(), path)
    with pytest.raises((ValueError, RuntimeError), match=r"does not fit|size mismatch"):
        load_weights(resnet18(), path)
    with pytest.raises(FileNotFoundError, match="missing from this installation"):
        load_weights(resnet20(), tmp_path / "none.safetensors")


@dataclass
class Held:
    x: torch.Tensor


def test_digests():
    x = torch.arange(6.0).reshape(2, 3)
    assert digest((x, {"a": 1})) == digest((x.clone(), {"a": 1}))
    assert digest(x) != digest(x.reshape(3, 2))
    assert digest(x) != digest(x.t().contiguous())
    assert digest(x.t()) == digest(x.t().contiguous())
    assert digest([x, x]) != digest([x])
    assert digest(np.arange(3)) != digest(np.arange(3.0))
    # Objects whose repr leaves out most of what they hold.
    big = torch.zeros(100_000)
    other = big.clone()
    other[50_000] = 1
    assert repr(big) == repr(other)
    for holder in (SimpleNamespace, UserDict, Held):
        assert digest(holder(x=big)) == digest(holder(x=big.clone()))
        assert digest(holder(x=big)) != digest(holder(x=other))
    a = nn.Linear(2, 2)
    before = weights_digest(a)
    with torch.no_grad():
        a.bias[0] += 1
    assert weights_digest(a) != before


def test_an_unfinished_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o044


def test_what_a_file_of_ones_own_raises_is_said_with_its_line(tmp_path):
    file = tmp_path / "net.py"
    for content, message in (
        ("def net(:", "net.py, line 1: SyntaxError: invalid syntax"),
        ("import os\nimport torchh", "net.py, line 2: ModuleNotFoundError: No module named 'torchh'"),
        ("def net():\n    x = 1\n    return {}[x]", "net.py, line 3: KeyError: 1"),
        ("def net(x):\n    return 1", "net.py: TypeError: net.. missing 1 required positional argument: 'x'"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            load(f"{file}:net")
