"""Hadamard transforms against the matrix itself, and against torch's sums."""

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag, hadamard

from formats.kernel import transform_lines
from predictor.recipes.transforms import butterflies, signs


def pieces(columns, length):
    """Powers of two from `length` down that make up a line."""
    found, size = [], length
    while sum(found) < columns:
        while size > columns - sum(found):
            size //= 2
        found.append(size)
    return found


@pytest.mark.parametrize("length", [1, 2, 16, 64])
@pytest.mark.parametrize("columns", [1, 16, 37, 128])
def test_the_matrix_times_whole_numbers(length, columns):
    x = np.random.default_rng(length + columns).integers(-1000, 1000, (3, columns))
    of_run = signs(length, 7).numpy()
    sizes = pieces(columns, length)
    matrix = block_diag(*(hadamard(size) for size in sizes))
    own = np.resize(of_run, columns)
    roots = np.repeat([np.float32(1 / np.sqrt(size)) for size in sizes], sizes)
    out = np.empty((3, columns), np.float32)
    transform_lines(x.astype(np.float32), out, of_run, inverse=False)
    # The sums are whole numbers that float32 holds, so that only the last product is rounded.
    assert (out == ((x * own) @ matrix).astype(np.float32) * roots).all()
    transform_lines(x.astype(np.float32), out, of_run, inverse=True)
    assert (out == (x @ matrix).astype(np.float32) * roots * own).all()


@pytest.mark.parametrize("size", [2, 16, 32])
def test_the_bits_of_torch(size):
    lines = torch.randn(64, 4 * size) * torch.exp(9 * torch.randn(64, 4 * size))
    of_run = signs(size, 3)
    out = np.empty(lines.shape, np.float32)
    transform_lines(lines.numpy(), out, of_run.numpy(), inverse=False)
    expected = butterflies(lines.reshape(-1, size) * of_run, size).reshape(lines.shape).numpy()
    assert (out.view(np.int32) == expected.view(np.int32)).all()
    transform_lines(lines.numpy(), out, of_run.numpy(), inverse=True)
    expected = (butterflies(lines.reshape(-1, size), size) * of_run).reshape(lines.shape).numpy()
    assert (out.view(np.int32) == expected.view(np.int32)).all()


def test_nothing_to_transform():
    for shape in ((0, 8), (4, 0)):
        out = np.empty(shape, np.float32)
        transform_lines(np.empty(shape, np.float32), out, np.ones(16, np.float32), inverse=False)
        assert out.shape == shape
