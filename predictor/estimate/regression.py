"""Weights of noise: how much each tensor's noise-to-signal ratio turns the gradient, by least squares."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST, MOST = 1e-12, 1e3
"""Ratios are held between these, so that formats without noise, or without any signal left, have a place too."""
LINEAR = 50.0
"""Degrees beyond which tan^2 is no longer proportional to noise; such formats do not take part in the least squares."""
TOWARDS_EQUAL = 0.05
"""How strongly weights are drawn to equal ones, relative to what the formats say: their number is below that of the
tensors."""
NEWTON_STEPS = 100


def drawn_to_ones(rows: Array, pull: float) -> Array:
    """The x >= 0 (n,) with the least |rows @ x - 1|^2 + pull * |x - 1|^2, pull > 0; rows (m, n) finite, with m well
    below n.

    Where x is least, it is max(0, 1 + rows^T r / pull) with r = 1 - rows @ x, and that r has the least of a convex
    function of m numbers, which Newton's method finds: m^2 * n operations a step, however many tensors a network has (a
    recurrent one has some for each time step).
    """
    rows, residual = np.asarray_chkfinite(rows), np.zeros(len(rows))

    def at(residual: Array) -> tuple[Array, float]:
        x = np.maximum(0, 1 + residual @ rows / pull)
        return x, float(0.5 * residual @ residual + 0.5 * pull * x @ x - residual.sum())

    x, cost = at(residual)
    for _ in range(NEWTON_STEPS):
        slope, inside = residual + rows @ x - 1, rows[:, x > 0]
        step = np.linalg.solve(np.eye(len(rows)) + inside @ inside.T / pull, slope)
        share, (new, lower) = 1.0, at(residual - step)
        while lower > cost - 1e-4 * share * float(slope @ step) and share > 1e-9:
            share /= 2
            new, lower = at(residual - share * step)
        # Between the places where an entry of x becomes zero the function is quadratic, and a whole step there is
        # exact.
        done = share == 1 and np.array_equal(new > 0, x > 0)
        residual, x, cost = residual - share * step, new, lower
        if done:
            break
    return x


def fit_weights(ratios: Array, angles: Array) -> Array:
    """Non-negative weights (rows,) of tan^2(angle) on ratios (formats, rows): relative least squares, drawn towards
    equal weights."""
    use = (angles < LINEAR) & (angles > 0)
    if not use.any():
        use = np.ones(len(angles), bool)
    target = np.tan(np.radians(np.clip(angles[use], 1e-6, 89))) ** 2
    total = ratios[use].sum(1)
    equal = math.exp(np.mean(np.log(target / np.maximum(total, LEAST))))
    return drawn_to_ones(ratios[use] * equal / target[:, None], TOWARDS_EQUAL * use.sum() / ratios.shape[1]) * equal
