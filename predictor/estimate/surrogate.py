"""From noise-to-signal ratios to angles: a surrogate that is fitted to the exact angles of a few formats.

Noise adds up, and how it travels to the weight gradients hardly depends on the format (docs/definitions/prediction.md
section 3), so tan^2(angle) is about `sum_k weights[k] * NSR_k`, with weights >= 0 from least squares. What that leaves
(noise of coarse formats is not quite random, and large angles saturate) is smooth in the ratios, so a Gaussian process
over them carries it, together with what mini-batches have in common. Every exact angle so far takes part, whichever
mini-batch it was measured on, and held-out formats scale the intervals.

Source of the process: C. Rasmussen, C. Williams, "Gaussian Processes for Machine Learning", 2006, sections 2.7 (linear
mean) and 5.4.2 (leave-one-out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist
from scipy.special import ndtri

from predictor.effects import Effect
from predictor.estimate.regression import LEAST, MOST, Array, fit_weights
from predictor.gradient.noise import Kind
from predictor.statistics import CONFIDENCE

KINDS = {
    Effect.E: (Kind.E,),
    Effect.A: (Kind.A,),
    Effect.AE: (Kind.A, Kind.E),
    Effect.W: (Kind.W,),
    Effect.WAE: (Kind.A, Kind.E, Kind.W),
}
"""Whose noise an effect feels."""
KEPT = 1e-3
"""Share of the ratios' variance below which a principal direction is dropped."""
SLOPE_VARIANCE = 4.0
LIMIT = float(ndtri((1 + CONFIDENCE) / 2))
"""Standard deviations that an interval reaches on either side."""


class Observation(NamedTuple):
    """An exact angle in degrees of one format (its index among those the surrogate was given) on one mini-batch."""

    format: int
    minibatch: int
    angle: float


class Variances(NamedTuple):
    """Variances, in units of 2 log tan(angle / 2), of what the mean leaves.

    Attributes:
        smooth: of a format, alike for those with like noise.
        own: of a format alone.
        batch: of a mini-batch, common to all formats.
        tilt: of a mini-batch, for each unit of the logarithm of the score.
        batch_smooth: of a mini-batch, alike for formats with like noise.
        residual: of one measurement.
        length: over which the smooth parts change, in places.
    """

    smooth: float
    own: float
    batch: float
    tilt: float
    batch_smooth: float
    residual: float
    length: float


TYPICAL = Variances(0.2, 0.01, 0.2, 0.03, 0.12, 0.03, 2.0)
"""Where the fit starts and what it is drawn to when there are few data; of the size seen on the bundled ResNet-20."""
DRAW = 0.5
"""Standard deviation, in logarithms, of the variances around the typical ones."""


def to_scale(angle: Array) -> Array:
    """2 log tan(angle / 2): the logarithm of tan^2 for small angles (up to a constant), and smooth through 90
    degrees."""
    return np.asarray(2 * np.log(np.tan(np.radians(np.clip(angle, 1e-9, 179.9)) / 2)))


def to_degrees(scale: Array) -> Array:
    """The inverse of `to_scale`."""
    return np.asarray(2 * np.degrees(np.arctan(np.exp(scale / 2))))


@dataclass(frozen=True)
class Surrogate:
    """Predicted angles of one effect, averaged over mini-batches 0 to `minibatches` - 1.

    Attributes:
        effect: whose angles are predicted.
        weights: (rows of Noise,), >= 0; zero for tensors that the effect does not quantize.
        minibatches: over how many is averaged.
        variances: as fitted.
        widened: by how much intervals are wider than the process says, from held-out formats.
        held_out: the share of those within their 95% interval.
    """

    effect: Effect
    weights: Array
    minibatches: int
    variances: Variances
    widened: float
    held_out: float
    _rows: NDArray[np.int64]
    _centre: Array
    _basis: Array
    _middle: float
    _points: Array
    _scores: Array
    _observed: tuple[Observation, ...]
    _factor: tuple[Array, bool]
    _solved: Array
    _level: float

    def score(self, ratios: Array) -> Array:
        """The linear part, proportional to tan^2(angle): ratios (formats, rows) to (formats,)."""
        return np.asarray(ratios @ self.weights)

    def predict(self, ratios: Array, formats: Sequence[int] | None = None) -> tuple[Array, Array, Array]:
        """Mean angle over the mini-batches and its 95% interval, in degrees, from ratios (n, rows).

        formats: the indices of these formats among the observed ones, where they were observed; by default they are
        new.
        """
        v = self.variances
        points = _embed(ratios[:, self._rows], self._centre, self._basis)
        scores = _logarithm(self.score(ratios)) - self._middle
        own = np.full(len(ratios), -1) if formats is None else np.asarray(formats)
        seen = np.array([o.format for o in self._observed])
        inside = np.array([o.minibatch < self.minibatches for o in self._observed])
        alike = np.exp(-0.5 * (cdist(points, self._points) / v.length) ** 2)
        same = own[:, None] == seen[None]
        share = inside / self.minibatches
        across = (
            _linear(scores, self._scores)
            + v.smooth * alike
            + v.own * same
            + share * (v.batch + v.tilt * np.outer(scores, self._scores) + v.batch_smooth * alike + v.residual * same)
        )
        mean = self._level + across @ self._solved
        one_batch = v.batch + v.tilt * scores**2 + v.batch_smooth + v.residual
        prior = SLOPE_VARIANCE * (1 + scores**2) + v.smooth + v.own + one_batch / self.minibatches
        variance = prior - np.einsum("ij,ji->i", across, cho_solve(self._factor, across.T))
        half = self.widened * LIMIT * np.sqrt(np.maximum(variance, 0))
        radians = np.radians(to_degrees(mean))
        # A mean of angles, not of their logarithms: the second derivative of to_degrees is sin * cos / 4.
        bend = np.degrees(np.sin(radians) * np.cos(radians) / 8) * one_batch
        return to_degrees(mean) + bend, to_degrees(mean - half) + bend, to_degrees(mean + half) + bend


def _logarithm(score: Array) -> Array:
    return np.log(np.clip(np.nan_to_num(score, nan=MOST, posinf=MOST), LEAST, None))


def _clipped(ratios: Array) -> Array:
    return np.log(np.clip(np.nan_to_num(ratios, nan=MOST, posinf=MOST), LEAST, MOST))


def _embed(ratios: Array, centre: Array, basis: Array) -> Array:
    """Places of formats: distance is the root mean square difference of log NSR over tensors."""
    return np.asarray((_clipped(ratios) - centre) @ basis)


def places(ratios: Array) -> tuple[Array, Array, Array]:
    """Places (formats, directions) of formats by their ratios (formats, rows), with the centre and the basis they come
    from."""
    logarithms = _clipped(ratios)
    centre = logarithms.mean(0)
    _, strengths, directions = np.linalg.svd(logarithms - centre, full_matrices=False)
    kept = strengths**2 > KEPT * max(float((strengths**2).sum()), LEAST)
    kept[0] = True
    basis = directions[kept].T / math.sqrt(ratios.shape[1])
    return (logarithms - centre) @ basis, centre, basis


def _linear(a: Array, b: Array) -> Array:
    return SLOPE_VARIANCE * (1 + np.outer(a, b))


def _covariance(
    v: Variances, scores: Array, alike: Array, same_format: NDArray[np.bool_], same_batch: NDArray[np.bool_]
) -> Array:
    return (
        _linear(scores, scores)
        + v.smooth * alike
        + v.own * same_format
        + same_batch * (v.batch + v.tilt * np.outer(scores, scores) + v.batch_smooth * alike + v.residual * same_format)
    )


def _fit_variances(
    z: Array, scores: Array, distance: Array, same_format: NDArray[np.bool_], same_batch: NDArray[np.bool_]
) -> Variances:
    """Maximum a posteriori."""
    from scipy.optimize import minimize  # takes long to load, and a ranking has something to say before

    typical = np.log(np.array(TYPICAL))
    centred = z - z.mean()

    def cost(logarithms: Array) -> float:
        v = Variances(*np.exp(logarithms))
        alike = np.exp(-0.5 * (distance / v.length) ** 2)
        try:
            factor = cho_factor(
                _covariance(v, scores, alike, same_format, same_batch) + 1e-9 * np.eye(len(z)), lower=True
            )
        except np.linalg.LinAlgError:
            return 1e12
        misfit = 0.5 * centred @ cho_solve(factor, centred) + np.log(np.diag(factor[0])).sum()
        return float(misfit + 0.5 * (((logarithms - typical) / DRAW) ** 2).sum())

    bounds = [(t - 5, t + 5) for t in typical]
    found = minimize(cost, typical, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    return Variances(*(float(value) for value in np.exp(found.x)))


def fit(
    effect: Effect, kinds: Sequence[Kind], ratios: Array, observed: Sequence[Observation], minibatches: int
) -> Surrogate:
    """A surrogate of one effect from exact angles.

    kinds: of the tensors (rows,). ratios: NSR (formats, rows) of all formats that `observed` may name. minibatches:
    over how many mini-batches predictions are averaged. Raises ValueError without observations.
    """
    if not observed:
        raise ValueError("a surrogate needs at least one exact angle")
    rows = np.flatnonzero([kind in KINDS[effect] for kind in kinds])
    points, centre, basis = places(ratios[:, rows])
    formats, batches, angles = (np.array(column) for column in zip(*observed, strict=True))
    distinct = np.unique(formats)
    means = np.array([angles[formats == f].mean() for f in distinct])
    weights = np.zeros(ratios.shape[1])
    weights[rows] = fit_weights(ratios[distinct][:, rows], means)
    logarithms = _logarithm(ratios @ weights)
    middle = float(logarithms.mean())
    scores = logarithms[formats] - middle
    z = to_scale(angles)
    same_format, same_batch = formats[:, None] == formats[None], batches[:, None] == batches[None]
    distance = cdist(points[formats], points[formats])
    variances = _fit_variances(z, scores, distance, same_format, same_batch)
    alike = np.exp(-0.5 * (distance / variances.length) ** 2)

    def covariance_at(scores: Array) -> Array:
        return _covariance(variances, scores, alike, same_format, same_batch) + 1e-9 * np.eye(len(z))

    factor = cho_factor(covariance_at(scores), lower=True)
    level = float(z.mean())
    solved = cho_solve(factor, z - level)
    errors = []
    for place, f in enumerate(distinct):
        # The format is held out of everything: the weights are those of the others.
        mine, others = np.flatnonzero(formats == f), np.flatnonzero(formats != f)
        if not len(others):
            break
        without = fit_weights(np.delete(ratios[distinct][:, rows], place, axis=0), np.delete(means, place))
        covariance = covariance_at(_logarithm(ratios[formats][:, rows] @ without) - middle)
        across = covariance[np.ix_(mine, others)]
        gain = cho_solve(cho_factor(covariance[np.ix_(others, others)], lower=True), across.T).T
        missed = (z[mine] - z[others].mean() - gain @ (z[others] - z[others].mean())).mean()
        errors.append(missed / math.sqrt(max((covariance[np.ix_(mine, mine)] - gain @ across.T).mean(), 1e-12)))
    deviations = np.abs(errors) if errors else np.zeros(1)
    widened = max(1.0, float(np.quantile(deviations, CONFIDENCE)) / LIMIT)
    held_out = float(np.mean(deviations <= widened * LIMIT))
    return Surrogate(
        effect,
        weights,
        minibatches,
        variances,
        widened,
        held_out,
        rows,
        centre,
        basis,
        middle,
        points[formats],
        scores,
        tuple(observed),
        factor,
        solved,
        level,
    )


def spread(points: Array, count: int, first: Sequence[int]) -> list[int]:
    """Indices of formats that stand for all (places, (formats, directions)): `first`, then always the one that brings
    the others closest, by the sum of their squared distances to the nearest one chosen."""
    chosen = list(dict.fromkeys(first))
    square = cdist(points, points, "sqeuclidean")
    nearest = square[chosen].min(0) if chosen else np.full(len(points), square.max())
    while len(chosen) < min(count, len(points)):
        left = np.minimum(square, nearest).sum(1)
        left[chosen] = np.inf
        best = int(np.argmin(left))
        chosen.append(best)
        nearest = np.minimum(nearest, square[best])
    return chosen
