"""Codes as a dense stream of bits."""

import numpy as np
import pytest

import formats


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
