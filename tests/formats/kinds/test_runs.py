"""Blocks of every length along every axis, however an array lies in memory: each is rounded as if it stood alone."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import formats
from formats import Scale

LENGTHS = (1, 2, 7, 16, 28, 31, 32, 33, 64)


def hard(rng, shape):
    """Numbers of all sizes line by line, zeros, subnormal numbers, infinities and NaN among them."""
    x = np.ldexp(rng.standard_normal(shape), rng.integers(-30, 30, (*shape[:-1], 1))).astype(np.float32)
    x[rng.random(shape) < 0.02] = np.nan
    x[rng.random(shape) < 0.02] = -np.inf
    # Scales at the lower end of float32, where another loop serves, and blocks of zeros.
    x[:1] = np.ldexp(rng.standard_normal(x[:1].shape), rng.integers(-150, -120, x[:1].shape)).astype(np.float32)
    x[1:2, :2] = -0.0
    return x


def alone(format, x, length, axis):
    """Runs one after the other, each by a format with one scale for all."""
    whole, expected = replace(format, scale=Scale()), np.empty_like(x)
    rows, made = np.moveaxis(x, axis, -1), np.moveaxis(expected, axis, -1)
    for place in np.ndindex(rows.shape[:-1]):
        for first in range(0, rows.shape[-1], length):
            run = np.array(rows[place][first : first + length])
            made[place][first : first + length] = whole.round(run)
    return expected


SHAPES = pytest.mark.parametrize("shape", [(3, 70), (70, 3), (3, 5, 40), (2, 33, 4, 7), (3, 2, 16, 16)])


@pytest.mark.parametrize(
    "name", ["FP134", "E4M3/tensor", "T6.3x2@1", "profile:8:5,4,3,5,2,1,1,1", "E4M3/real", "INT8/real"]
)
@SHAPES
def test_every_run_is_rounded_as_if_it_stood_alone(name, shape):
    rng = np.random.default_rng(len(shape))
    format, x, orders = formats.get(name), hard(rng, shape), list(itertools.permutations(range(len(shape))))
    for length in LENGTHS:
        axis, order = int(rng.integers(-len(shape), len(shape))), orders[rng.integers(len(orders))]
        runs = replace(format, scale=Scale(per="block", block=length, axis=axis), name="runs")
        expected = alone(format, x, length, axis)
        lying = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        rounded = runs.round(lying)
        where = f"{name}: runs of {length} along axis {axis} of {shape}, in memory {order}"
        assert rounded.tobytes() == expected.tobytes(), where
        assert rounded.strides == lying.strides, where
        assert runs.round(lying[..., ::2]).tobytes() == runs.round(lying[..., ::2].copy()).tobytes(), where
        in_place = lying.copy(order="K")
        assert runs.round(in_place, out=in_place).tobytes() == expected.tobytes(), where


@pytest.mark.parametrize("name", ["NVFP4", "E4M3/real/block16", "INT4/real/block16"])
@pytest.mark.parametrize("mode", [{}, {"rounding": "stochastic", "seed": 3, "stream": 4}], ids=["nearest", "drawn"])
@SHAPES
def test_float32_is_rounded_as_the_same_numbers_in_float64_are(name, mode, shape):
    # Float64 takes the other way, which finds the values around each number one by one.
    rng, format = np.random.default_rng(len(shape)), formats.get(name)
    x, orders = hard(rng, shape), list(itertools.permutations(range(len(shape))))
    for length in (*LENGTHS, (2, 3), (16, 16), (1, 31)):
        axis = None if isinstance(length, tuple) else int(rng.integers(-len(shape), len(shape)))
        order = orders[rng.integers(len(orders))]
        blocks = replace(format, scale=Scale(per="block", block=length, axis=axis), name="")
        lying = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        for keep in (False, True):
            expected = blocks.round(lying.astype(np.float64), keep_infinities=keep, **mode).astype(np.float32)
            rounded = blocks.round(lying, keep_infinities=keep, **mode)
            assert rounded.tobytes() == expected.tobytes(), f"{blocks.name} of {shape}, in memory {order}"
