"""Files of weights in the layouts in which they are published."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from workloads.weights import fill, read_state


def net(outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, outputs))


def test_layouts(tmp_path):
    state = net().state_dict()
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    for name, content in (
        ("plain.pth", state),
        ("checkpoint.pt", {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}),
        ("checkpoint.tar", {"model": state}),
        ("half.pth", half),
        (
            "brain.pth",
            {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()},
        ),
    ):
        torch.save(content, tmp_path / name)
    save_file(half, tmp_path / "half.safetensors")
    for path in tmp_path.iterdir():
        read, dtype = read_state(path), {"half": torch.half, "brain": torch.bfloat16}.get(path.stem, torch.float32)
        assert read.keys() == state.keys()
        for name, value in state.items():
            expected = value.to(dtype).float() if value.is_floating_point() else value
            assert read[name].dtype == value.dtype
            assert torch.equal(read[name], expected)
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
        fill(model, path, "net")
        assert all(torch.equal(value, read[name]) for name, value in model.state_dict().items())


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "w.pth"
    state = net(3).state_dict()
    del state["0.weight"], state["1.num_batches_tracked"]
    state["head.weight"] = torch.zeros(2)
    torch.save(state, path)
    with pytest.raises(ValueError) as caught:
        fill(net(), path, "net")
    assert str(caught.value) == (
        f"{path} does not fit net: 3.weight is (3, 4), the network's (2, 4), 3.bias is (3,), the network's (2,), "
        "0.weight is missing and 1 more"
    )


def test_files_that_are_no_state_dict(tmp_path):
    torch.save(net(), tmp_path / "whole.pth")
    torch.save({"state_dict": {}}, tmp_path / "empty.pt")
    torch.save({"weight": torch.zeros(2), "epoch": 3}, tmp_path / "mixed.pt")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    (tmp_path / "noise.safetensors").write_bytes(b"noise noise noise")
    (tmp_path / "w.onnx").write_bytes(b"")
    for name, error, message in (
        ("whole.pth", ValueError, "no state dict that can be read safely"),
        ("empty.pt", ValueError, "which names tensors and nothing else"),
        ("mixed.pt", ValueError, "which names tensors and nothing else"),
        ("noise.pth", ValueError, "no state dict that can be read safely"),
        ("noise.safetensors", ValueError, "no state dict that can be read safely"),
        ("w.onnx", ValueError, r"a file that ends in \.safetensors"),
        ("none.pth", FileNotFoundError, "there is no file of weights"),
    ):
        with pytest.raises(error, match=message) as caught:
            read_state(tmp_path / name)
        assert "\n" not in str(caught.value)
