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
        ("whole.pth", ValueError, "cannot be read as a state dict that is safe: "),
        ("empty.pt", ValueError, "which names tensors and nothing else"),
        ("mixed.pt", ValueError, "which names tensors and nothing else"),
        ("noise.pth", ValueError, "cannot be read as a state dict that is safe: "),
        ("noise.safetensors", ValueError, "cannot be read as a state dict that is safe: "),
        ("w.onnx", ValueError, r"a file that ends in \.safetensors"),
        ("none.pth", FileNotFoundError, "there is no file of weights"),
    ):
        with pytest.raises(error, match=message) as caught:
            read_state(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_damaged_files_are_a_line_each(tmp_path):
    torch.save(net().state_dict(), tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    flipped = bytearray(good)
    flipped[good.index(net().state_dict()["3.weight"].numpy().tobytes()) + 2] ^= 8
    for number, content in enumerate(
        (b"", b"\x80", b"not a pickle", b"\x80\x02}q\x00.", bytes(range(256)), good[:700], flipped)
    ):
        path = tmp_path / f"damaged_{number}.pth"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"damaged_{number}\.pth") as caught:
            read_state(path)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:torch.ao:DeprecationWarning", "ignore:.*uantize:UserWarning")
def test_tensors_of_other_kinds_are_refused_by_name(tmp_path):
    half = torch.zeros(1, dtype=torch.float16)
    for name, value, message in (
        ("sparse", torch.eye(3).to_sparse(), r"a\.b is torch\.sparse_coo"),
        ("quantized", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), r"a\.b is quantized"),
        ("meta", torch.zeros(3, device="meta"), r"a\.b is on the meta device"),
        ("complex", torch.ones(3, dtype=torch.complex64), r"a\.b is of complex numbers"),
        ("endless", half.as_strided((1 << 20, 1 << 20), (0, 0)), r"a\.b claims 1099511627776 elements"),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save({"a.b": value}, path)
        with pytest.raises(ValueError, match=message):
            read_state(path)


def test_repeated_elements_and_float8_are_read(tmp_path):
    eights = torch.tensor([0.5, -448.0, 0.001953125]).to(torch.float8_e4m3fn)
    torch.save({"a": torch.tensor([2.5]).expand(3), "b": eights}, tmp_path / "w.pth")
    read = read_state(tmp_path / "w.pth")
    assert read["a"].tolist() == [2.5] * 3
    assert read["b"].tolist() == [0.5, -448.0, 0.001953125]


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.uint8])
def test_numbers_of_another_kind_do_not_fit(tmp_path, kind):
    path, state = tmp_path / "w.pth", net().state_dict()
    state["3.weight"] = torch.ones(2, 4, dtype=kind)
    torch.save(state, path)
    with pytest.raises(ValueError, match=rf"does not fit net: 3\.weight is of {kind}, the network's of torch\.float32"):
        fill(net(), path, "net")


def test_a_tensor_that_is_called_a_folder_is_not_made_of_memory_as_it_was(tmp_path):
    torch.save({"a": torch.ones(64)}, tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[content.rindex(b"w/data/0") - 8] |= 16
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pth cannot be read as .*: 'w/data/0' is a folder"):
        read_state(tmp_path / "w.pth")
