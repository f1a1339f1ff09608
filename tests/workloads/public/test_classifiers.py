"""Public classifiers by name. What needs torchvision or timm is skipped without a build of it that goes with the torch
installed here."""

import importlib
import sys

import pytest
import torch
from torch import nn

import cli
from predictor import measure
from search.ranking import rank
from tests.workloads.images import write_folder
from workloads import load
from workloads.data.images import Preprocessing
from workloads.public import classifiers
from workloads.public.packages import import_extra


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "set" / "train", ["a", "b", "c"], 2, (40, 48), ending="jpg")
    write_folder(tmp_path / "set" / "val", ["a", "b"], 1, (48, 40), seed=1)
    return tmp_path / "set"


def needed(package):
    try:
        return import_extra(package, package)
    except ImportError as error:
        pytest.skip(str(error))


class Small(nn.Module):
    """What stands for a package's network."""

    def __init__(self, classes):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


@pytest.fixture
def stand_in(monkeypatch):
    """A network by the name torchvision:small with four public outputs."""
    preprocessing = Preprocessing((0.5,) * 3, (0.25,) * 3, 20, (16, 16))

    def make(name, weights, classes):
        torch.manual_seed(0)
        return Small(4 if weights is None else classes), preprocessing, 4 if weights is None else classes

    monkeypatch.setitem(classifiers.NETWORKS, "torchvision", make)


def test_a_network_and_data(folder, tmp_path, stand_in, monkeypatch):
    torch.save(Small(3).half().state_dict(), tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    workload = load("torchvision:small", "imagefolder:set", "w.pth")
    assert workload.name == "torchvision:small"
    assert workload.minibatches(3)[1][0].shape == (3, 3, 16, 16)
    assert [len(y) for _, y in workload.test(64)] == [2]
    assert 0 <= workload.metric(workload.model, workload.test(64)[0]) <= 1
    # From another folder too, weights and data are found by the source.
    monkeypatch.chdir("/")
    again = load(workload.source)
    assert again.source == workload.source
    assert torch.equal(again.model.fc.weight, workload.model.fc.weight)
    assert torch.equal(again.minibatches(3)[0][0], workload.minibatches(3)[0][0])
    found = measure(again, ["FP134", "INT6"], minibatches=2, batch_size=3)
    assert (found.angle > 0).all()
    assert found.angle.max() < 90


def test_commands_take_data_and_weights(folder, tmp_path, stand_in, monkeypatch, capsys):
    torch.save(Small(3).state_dict(), tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["formats", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        return ended.value.code, *capsys.readouterr()

    own = ("-m", "torchvision:small", "--data", "imagefolder:set", "--weights", "w.pth")
    code, out, _ = run("rank", *own, "-f", "FP134,INT8", "--minibatches", "2", "--batch-size", "3", "--no-store")
    assert (code, "FP134" in out, out.splitlines()[0].strip()) == (
        0,
        True,
        "torchvision:small: 2 formats by the angle of AE over 2 mini-batches, scheme paper; 2 measured",
    )
    assert run("bench", "gradient", *own, "--batch-size", "2", "--repeats", "1")[0] == 0
    code, _, error = run("quantize", *own[:4], "--weights-file", "absent.pth")
    assert (code, error) == (2, f"error: there is no file of weights {tmp_path / 'absent.pth'}\n")
    for command in (("measure", "-f", "INT8"), ("attribute", "-f", "INT8"), ("search",), ("train", "--epochs", "1")):
        assert run(*command, *own[:4])[2].startswith("error: torchvision:small has 4 outputs")


def test_places_with_special_characters(folder, tmp_path, stand_in):
    odd = tmp_path / "a&b=c?d %41+ü"
    folder.rename(odd)
    torch.save(Small(3).state_dict(), tmp_path / "w&x=1.pth")
    workload = load("torchvision:small", f"imagefolder:{odd}", tmp_path / "w&x=1.pth")
    assert load(workload.source).source == workload.source


def test_what_does_not_go_together(folder, tmp_path, stand_in):
    torch.save(Small(4).state_dict(), tmp_path / "four.pth")
    data = f"imagefolder:{folder}"
    for arguments, error, message in (
        (("torchvision:small",), ValueError, "torchvision:small needs --data: imagefolder:PATH"),
        (("torchvision:small", "text:x"), ValueError, "image classifiers take imagefolder:PATH, cifar10"),
        (("torchvision:small", "imagefolder"), ValueError, "image classifiers take"),
        (("torchvision:small", data), ValueError, "has 4 outputs, imagefolder:.* has 3 classes"),
        (
            ("torchvision:small", data, tmp_path / "four.pth"),
            ValueError,
            r"3 outputs, one for each class of .*: fc.weight is \(4, 4\)",
        ),
        (("torchvision:small", data, tmp_path / "none.pth"), FileNotFoundError, "there is no file of weights"),
        (("torchvision:small?size=3", data), ValueError, "size is not data or weights"),
        (("resnet20", data), ValueError, "resnet20 has its own"),
        (("mine.py:net", None, "w.pth"), ValueError, "mine.py:net has its own"),
    ):
        with pytest.raises(error, match=message):
            load(*arguments)


def test_packages_that_are_missing_or_do_not_fit(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "timm", None)
        with pytest.raises(ImportError, match="need the extra timm of numeric-formats"):
            import_extra("timm", "timm")
    (tmp_path / "broken_build.py").write_text("raise RuntimeError('operator torchvision::nms\\n does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match=r"fails beside torch .*: operator torchvision::nms does not exist"):
        import_extra("broken_build", "torchvision")


def test_no_network(monkeypatch):
    def unreachable():
        raise RuntimeError("no route\nto host")

    with pytest.raises(
        OSError, match=r"public weights of x cannot be loaded; --weights takes a local file\. Reason: no route to host"
    ):
        classifiers.pretrained("x", unreachable)


def test_timm_preprocessing():
    config = {
        "input_size": (3, 224, 224),
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.2,) * 3,
        "crop_pct": 0.9,
    }
    expected = Preprocessing((0.5,) * 3, (0.2,) * 3, 248, (224, 224), "bicubic")
    assert classifiers._timm_preprocessing("x", config | {"crop_mode": "center"}) == expected
    assert classifiers._timm_preprocessing("x", config | {"crop_mode": "squash"}).resize == (248, 248)
    with pytest.raises(ValueError, match="the crop 'border'"):
        classifiers._timm_preprocessing("x", config | {"crop_mode": "border"})


def test_torchvision(folder, tmp_path):
    models = needed("torchvision").models
    torch.save(models.resnet18(num_classes=3).state_dict(), tmp_path / "w.pth")
    workload = load("torchvision:resnet18", f"imagefolder:{folder}", tmp_path / "w.pth")
    x, _ = workload.minibatches(2)[0]
    # The same numbers as the package's own preprocessing of these weights.
    reader = workload.batches.__self__
    numbers = reader.train(2).numbers[0]
    preset = models.ResNet18_Weights.DEFAULT.transforms()
    assert torch.allclose(x, torch.stack([preset(reader.images.read(n)) for n in numbers]), rtol=0, atol=1e-6)
    ranked = rank(workload, ["FP134", "INT8"], effects=("E",), by="E", minibatches=1, batch_size=2).table
    assert 0 < ranked["angle_E"].iloc[0] < ranked["angle_E"].iloc[1] < 90
    with pytest.raises(ValueError, match="torchvision has no classifier 'resnet81'; did you mean resnet18"):
        load("torchvision:resnet81", f"imagefolder:{folder}")


def test_timm(folder, tmp_path):
    timm = needed("timm")
    torch.save(timm.create_model("mobilenetv2_050", num_classes=3).state_dict(), tmp_path / "w.pth")
    workload = load("timm:mobilenetv2_050", f"imagefolder:{folder}", tmp_path / "w.pth")
    x, _ = workload.minibatches(2)[0]
    reader = workload.batches.__self__
    preset = timm.data.create_transform(**timm.data.resolve_model_data_config(workload.model))
    assert torch.allclose(
        x, torch.stack([preset(reader.images.read(n)) for n in reader.train(2).numbers[0]]), rtol=0, atol=1e-6
    )
    ranked = rank(workload, ["FP134", "INT8"], effects=("E",), by="E", minibatches=1, batch_size=2).table
    assert 0 < ranked["angle_E"].iloc[0] < ranked["angle_E"].iloc[1] < 90
    with pytest.raises(ValueError, match="did you mean mobilenetv2_050"):
        load("timm:mobilenetv2_050x", f"imagefolder:{folder}")
