"""Formats from files, packing, torch modules, and the path of other devices."""

from pathlib import Path

import numpy as np
import pytest
import torch

import formats
from formats.pairs import candidate
from formats.rounding import NEAREST
from formats.tensors import find_top, round_anywhere, round_elsewhere, round_tensor
from formats.torch import Quantize
from search.candidates import choose
from tests.formats.inputs import hard_floats, random_floats
from tests.formats.reference import Reference

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_examples_define_formats():
    from_python = formats.load_formats(EXAMPLES / "custom_formats.py")
    assert [f.name for f in from_python] == [
        "best for errors?",
        "FP125",
        "FP133/block32",
        "quarters",
        "FP134 of x/2, doubled",
    ]
    from_toml = formats.load_formats(EXAMPLES / "custom_formats.toml")
    assert [f.name for f in from_toml] == ["best for errors?", "FP133 in blocks", "quarters"]
    assert from_toml[0] == from_python[0]
    assert from_toml[1] == formats.get("FP133/block32/rceil")
    assert from_toml[2] == from_python[3]
    chosen = choose([str(EXAMPLES / "custom_formats.py"), "FP134"])
    assert [f.name for f in chosen][-2:] == ["FP134 of x/2, doubled", "FP134"]


def test_a_format_of_a_file_by_name(tmp_path):
    one, two = tmp_path / "one.toml", tmp_path / "two.py"
    one.write_text("[Mine]\nprofile = '5x7,4,3,2,1'\n")
    two.write_text("import formats\na = formats.get('INT8')\nb = formats.get('FP134')\n")
    assert formats.get(str(one)).name == formats.get(f"{one}:Mine").name == "Mine"
    assert formats.get(f" {two}:FP134") == formats.get("FP134")
    assert candidate(f"{two}:INT8+{one}").name == "INT8+Mine"
    one.write_text("[Mine]\nprofile = '2,1'\n")  # read again
    assert formats.get(str(one)).profile == (2, 1)
    with pytest.raises(ValueError, match=r"two\.py defines INT8, FP134; one is needed here, as .*two\.py:INT8"):
        formats.get(str(two))
    with pytest.raises(ValueError, match="defines INT8, FP134"):
        formats.get(f"{two}:FP143")
    with pytest.raises(FileNotFoundError, match=r"there is no file none\.py"):
        formats.get("none.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "is not TOML"),
        ("a = 3", "a table is needed"),
        ("[a]\nprofle = [3]", "unknown key 'profle'; allowed are bias, bits, codebook"),
        ("[a]\nbits = 8", "exactly one of"),
        ("[a]\nprofile = [0]", "1 to 24 are allowed"),
        ("[a]\nexponent_bits = 3", "fraction_bits is missing"),
        ("[a]\nprofile = [3]\nscale = {per = 'row'}", "allowed are tensor, channel, block"),
        ("[a]\nprofile = [3]\nscale = {rows = 3}", "format 'a'"),
        ("", "defines no format"),
    ],
)
def test_damaged_descriptions(tmp_path, text, message):
    path = tmp_path / "f.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        formats.load_formats(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        formats.load_formats(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "name", ["profile:3:1x3", "profile:4:1x7", "profile:5:2x5,1", "INT6", "FP133", "INT8", "profile:12:5x20"]
)
def test_pack_and_unpack(name):
    format = formats.get(name)
    for shape in ((0,), (1,), (7,), (3, 5, 11)):
        q = format.encode(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
        packed = q.pack()
        assert packed.dtype == np.uint8
        assert len(packed) == -(-q.codes.size * format.bits // 8)
        again = formats.unpack(packed, format.bits, shape)
        assert again.dtype == q.codes.dtype
        assert (again == q.codes).all()
    with pytest.raises(ValueError, match="are 2 uint8"):
        formats.unpack(np.zeros(3, np.uint8), 3, (4,))


def test_packed_bits_are_in_the_stated_order():
    q = formats.get("profile:3:1x3").encode(np.float32([4, 2, 1]), top=2)  # codes 3, 2, 1
    assert q.codes.tolist() == [3, 2, 1]
    assert q.pack().tolist() == [0b01_010_011, 0]


@pytest.mark.parametrize(
    "name",
    [
        "FP134",
        "INT8",
        "FP152",
        "T8.5x3@2",
        "profile:4:1x7",
        "profile:8:5,5,6,5,5,4,4,3,3,3,2,1",
        "profile:16:9,3x40,12,1",
    ],
)
def test_the_path_of_other_devices_is_the_kernel_bit_for_bit(name):
    format = formats.get(name)
    low, high = format.top_range
    rng = np.random.default_rng(0)
    for top in (0, low, low + 20, high):
        x = np.concatenate(
            [hard_floats(Reference(format.profile, top), np.float32)[:4000], random_floats(rng, 2000, top)]
        )
        for keep in (False, True):
            want = format.round(x, top=top, keep_infinities=keep)
            got = round_anywhere(format, torch.from_numpy(x), top, keep).numpy()
            same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
            assert same.all(), (top, x[~same][:3], got[~same][:3], want[~same][:3])
    for x in (
        np.float32([1.9, -7.3, np.inf, np.nan]),
        np.float32([0, 0]),
        np.float32([1e-44]),
        np.float32([3e38]),
        np.zeros((0, 2), np.float32),
    ):
        assert int(find_top(format, torch.from_numpy(x))) == int(format.find_top(x))
        want = format.round(x)
        assert np.array_equal(round_anywhere(format, torch.from_numpy(x)).numpy(), want, equal_nan=True)
    double = torch.from_numpy(
        np.concatenate([np.random.default_rng(1).standard_normal(1000), [1 + 2.0**-5 + 2.0**-50]])
    )
    assert torch.equal(round_anywhere(format, double, 0), format.round(double, top=0))


@pytest.mark.filterwarnings("ignore")
def test_the_path_of_other_devices_compiled():
    format = formats.get("FP134")
    x = torch.from_numpy(
        np.concatenate(
            [hard_floats(Reference(format.profile, 0), np.float32), random_floats(np.random.default_rng(0), 3000, 0)]
        )
    )
    compiled = torch.compile(lambda v: round_anywhere(format, v, 0))
    want = format.round(x, top=0)
    assert torch.equal(compiled(x).nan_to_num(7), want.nan_to_num(7))
    assert torch.equal(compiled(x).signbit() | x.isnan(), want.signbit() | x.isnan())


def test_devices_without_a_path_say_so():
    x = torch.zeros(3, device="meta")
    with pytest.raises(ValueError, match="only tensor scales"):
        round_anywhere(formats.get("BM43"), x)
    with pytest.raises(ValueError, match="FP134, rounding up: tensors on meta can only be rounded to nearest"):
        formats.get("FP134").round(x, rounding="up")
    assert formats.get("FP134").round(x, top=0).device.type == "meta"


@pytest.mark.parametrize("name", ["FP134", "BM43", "FP134/block32", "E4M3", "NF4"])
def test_what_has_no_path_on_a_device_is_rounded_on_the_cpu(name):
    format = formats.get(name)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 50)).astype(np.float32))
    x[0, 0] = torch.inf
    # No other device is needed: on the CPU the path of other devices runs as well.
    assert torch.equal(round_elsewhere(format, x, None, NEAREST, True), format.round(x, keep_infinities=True))


def test_clipped_gradient():
    format = formats.get("FP134")
    x = torch.tensor([1.0, 1.9, 1.9375, 1.95, -3.0, 0.0], requires_grad=True)
    round_tensor(format, x, top=0, gradient="clipped").backward(torch.arange(1.0, 7.0))
    assert x.grad.tolist() == [1, 2, 3, 0, 0, 6]


def test_quantize_module():
    a, e = formats.get("FP134"), formats.get("FP123")
    model = torch.nn.Sequential(torch.nn.Linear(6, 4, bias=False), Quantize(a, e))
    x, w = torch.randn(5, 6), torch.randn(5, 4)
    out = model(x)
    assert torch.equal(out, a.round(model[0](x)))
    (out * w).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, e.round(w).T @ x)
    assert torch.equal(Quantize(None)(x), x)
    assert torch.equal(Quantize(a.name)(x), a.round(x))
    with pytest.raises(ValueError, match="did you mean FP143"):
        Quantize("FP1433")
    assert Quantize(a)(x.bfloat16()).dtype is torch.bfloat16
    assert "FP134" in repr(model)
    clipped = Quantize(a, gradient="clipped")
    y = x.clone().requires_grad_()
    clipped(y).sum().backward()
    assert torch.equal(y.grad, (y.abs() <= a.max(int(a.find_top(y)))).float())
    with pytest.raises(ValueError, match="allowed are straight-through, clipped"):
        Quantize(a, gradient="none")


def test_a_codebook_with_a_scale_in_toml(tmp_path):
    (tmp_path / "own.toml").write_text(
        "[own]\ncodebook = [0, 1, 3]\nsigned = true\nscale = {per = 'block', block = 16}\n"
    )
    (own,) = formats.load_formats(tmp_path / "own.toml")
    assert own == formats.from_codebook([0, 1, 3], signed=True).with_scale(formats.Scale(per="block", block=16))
    assert own.name == "own"
