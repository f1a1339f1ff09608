"""Rounding on other devices is the kernel's, bit for bit, and the gradient that a rounding passes back."""

import numpy as np
import pytest
import torch

import formats
from formats.rounding import NEAREST
from formats.tensors import find_top, round_anywhere, round_elsewhere, round_tensor
from tests.formats.inputs import hard_floats, random_floats
from tests.formats.reference import Reference


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


@pytest.mark.slow
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
