"""Numbers at which rounding is tried."""

import numpy as np

from tests.formats.reference import UNIT


def hard_floats(reference, dtype):
    """Values and midpoints as floats, each with its two neighbours, of both signs."""
    exact = np.array([value / (1 << UNIT) for value in reference.hard_inputs()], np.float64)
    with np.errstate(over="ignore"):
        x = exact.astype(dtype)
    x = np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(0))])
    return np.concatenate([x, -x])


def random_floats(rng, count, top):
    """Bit patterns of all kinds, and numbers around the format's range."""
    patterns = rng.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        near = np.ldexp(rng.standard_normal(count), top - rng.integers(0, 30, count)).astype(np.float32)
    return np.concatenate([patterns, near, np.float32([0, -0.0, np.inf, -np.inf, np.nan])])


def around(boundaries, values, dtype, seed=0):
    """Values and boundaries with their neighbours, and random numbers of all sizes, of both signs."""
    exact = np.array(sorted({float(v) for v in (*boundaries, *values)})).astype(dtype)
    rng = np.random.default_rng(seed)
    wild = np.ldexp(rng.standard_normal(200), rng.integers(-80, 80, 200)).astype(dtype)
    x = np.concatenate([exact, np.nextafter(exact, dtype(np.inf)), np.nextafter(exact, dtype(-np.inf)), wild])
    return np.concatenate([x, -x])
