"""Values of a profile times a real scale, against exact fractions and against rounding quotients in float64."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import formats
from formats.kernel.tiling import CHUNK
from tests.formats.reference import Reference

NAMES = ["INT8", "INT4", "FP134", "T8.5x3@2", "BM43", "INT16"]


def numbers(rng, format, step, shape):
    """Multiples of a step within and beyond the format, near each of its ties, on ties where the product is a float32
    number, and special ones."""
    top = format.profile[0] - 1
    wide = rng.standard_normal(shape) * np.exp2(rng.integers(-10, top + 3, shape))
    values = format.magnitudes(top)
    ties = rng.choice((values[1:] + values[:-1]) / 2, shape) * rng.choice([-1, 1], shape)
    x = (np.where(rng.random(shape) < 0.5, ties, wide) * float(step)).astype(np.float32)
    moved = rng.integers(-1, 2, shape).astype(np.int32)
    return (x.view(np.int32) + moved).view(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_the_nearest_value_by_fractions(name):
    rng, format = np.random.default_rng(1), formats.get(name)
    reference = Reference(format.profile, format.profile[0] - 1)
    for step in (
        np.float32(0.1),
        np.float32(3.7e-12),
        np.float32(1.0),
        np.float32(2.9e33 if format.bits < 16 else 1e30),
    ):
        x = numbers(rng, format, step, (400,))
        got = format.round_scaled(x, step)
        for given, y in zip(x.tolist(), got.tolist(), strict=True):
            quotient = Fraction(given) / Fraction(float(step))
            # A float64 on the same side of every tie: the exact reference takes floats.
            near = float(quotient)
            if Fraction(near) != quotient and (2 * near).is_integer():
                near = math.nextafter(near, math.inf if quotient > Fraction(near) else -math.inf)
            assert y == np.float32(reference.round(near) * float(step)), (given, float(step))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rounding", ["nearest", "up", "down", "toward-zero", "nearest-away"])
def test_as_rounding_the_quotients_in_float64(name, rounding):
    rng, format = np.random.default_rng(2), formats.get(name)
    top = format.profile[0] - 1
    for exponent in (-100, -30, 0, 60):
        steps = np.exp2(exponent + rng.uniform(-3, 3, 5)).astype(np.float32)
        x = numbers(rng, format, np.exp2(exponent), (3, 5, 4, 7))
        per = steps.astype(np.float64)[:, None, None]
        expected = (format.round(x / per, top=top, rounding=rounding) * per).astype(np.float32)
        assert (
            format.round_scaled(x, steps, axis=1, rounding=rounding).view(np.int32) == expected.view(np.int32)
        ).all()
        one = (format.round(x / per[0], top=top, rounding=rounding) * per[0]).astype(np.float32)
        assert (format.round_scaled(x, steps[0], rounding=rounding).view(np.int32) == one.view(np.int32)).all()


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_memory_order_and_threads_do_not_matter(axis):
    rng, format = np.random.default_rng(3), formats.get("INT8")
    x = rng.standard_normal((6, 40, 30, 50)).astype(np.float32)
    steps = rng.uniform(0.04, 0.1, x.shape[axis]).astype(np.float32)
    expected = format.round_scaled(x, steps, axis=axis)
    for order in ((0, 2, 3, 1), (3, 1, 2, 0)):
        moved = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        got = format.round_scaled(moved, steps, axis=axis)
        assert (got == expected).all()
        assert got.strides == moved.strides
    assert (format.round_scaled(x[::2], steps[::2] if axis == 0 else steps, axis=axis) == expected[::2]).all()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(format.round_scaled(x, steps, axis=axis, rounding="stochastic", seed=3, stream=1))
    finally:
        torch.set_num_threads(before)
    drawn = found[0]
    assert all((drawn == other).all() for other in found)
    assert abs((drawn - x).mean()) < 2e-4
    assert (
        np.abs(drawn - x) < np.broadcast_to(steps.reshape([-1 if d == axis % 4 else 1 for d in range(4)]), x.shape)
    ).all()


def test_arrays_without_axes_or_elements():
    format = formats.get("INT8")
    assert format.round_scaled(np.float32(0.26), 0.1) == np.float32(3 * np.float64(np.float32(0.1)))
    assert format.round_scaled(np.float32(0.26), [0.1], axis=0).shape == ()
    assert formats.get("INT8/real/channel").round(np.array(0.3, np.float32), top=[0.1]) == np.float32(
        3 * np.float64(np.float32(0.1))
    )
    for shape, axis in (((0, 3), 1), ((3, 0), 0), ((0,), None)):
        step = 0.1 if axis is None else np.full(shape[axis], 0.1)
        assert format.round_scaled(np.zeros(shape, np.float32), step, axis=axis).shape == shape


def test_specials_and_bad_input():
    format = formats.get("INT8")
    x = np.float32([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, -0.0])
    got = format.round_scaled(x, 1e-30)
    assert np.isnan(got[2])
    assert got[[0, 1, 3, 4, 5]].tolist() == [np.inf, -np.inf, np.float32(127e-30), -np.float32(127e-30), 0]
    assert np.signbit(got[6])
    for arguments, what in (
        ({"step": 0.0}, "positive"),
        ({"step": np.nan}, "positive"),
        ({"step": [1.0, 2.0]}, "shape"),
        ({"step": [1.0, 2.0], "axis": 0}, "shape"),
        ({"step": 1.0, "rounding": "hysteresis"}, "hysteresis"),
        ({"step": 1.0, "rounding": "stochastic"}, "seed"),
    ):
        with pytest.raises(ValueError, match=what):
            format.round_scaled(x, **arguments)
    with pytest.raises(TypeError, match="float32"):
        format.round_scaled(x.astype(np.float64), 1.0)


@pytest.mark.parametrize("name", ["INT8/real", "E4M3/real", "E5M2/real"])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_what_is_quick_and_what_is_exact_are_the_same(name, rounding):
    """A chunk that has no number on a tie, or just below a value, is rounded another way than one that has."""
    rng, format = np.random.default_rng(3), formats.get(name)
    magnitudes, chunks = format._magnitudes, 300
    ties = (magnitudes[1:] + magnitudes[:-1]) / 2
    for scale in np.float32([0.1, 1 / 3, 2**-9]):
        near = (rng.choice(np.concatenate([magnitudes, ties]), chunks) * scale).astype(np.float32).view(np.int32)
        quick = np.zeros((chunks, CHUNK), np.float32)
        quick[:, 0] = (near + rng.integers(-1, 2, chunks)).astype(np.int32).view(np.float32)
        exact = quick.copy()
        # Ties, and what is just below values: by some scales their quotients are such too, as float32 numbers.
        asked = np.concatenate([ties * scale, np.nextafter((magnitudes[1:] * scale).astype(np.float32), np.float32(0))])
        exact[:, 1 : 1 + len(asked)] = asked
        given = {"rounding": rounding, "seed": 1 if rounding == "stochastic" else None}
        got = [format.round(x, top=scale, **given)[:, 0].view(np.int32) for x in (quick, exact)]
        np.testing.assert_array_equal(*got)
