"""What causes the angle: which kind of tensor, and which layer, each alone and each left out.

Four tensors are rounded: weights W, activations A, errors E, and the weight gradient itself G (one scale per
parameter). The angle alone says what the rounding of one thing does; how far the angle of everything falls without it
says what keeping it exact would win.

Three things to know when reading the table. Parts do not add up to the whole: layers together give less than their
angles alone would if they were independent. One layer left out changes the realization of all rounding behind it, which
moves the angle of everything by more than most layers do, so that only many mini-batches make that column tell layers
apart. And an error that comes to a point from another of the same scale may lie on the grid already: leaving that point
out then changes nothing, though it has an angle alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from formats.pairs import Candidate, candidate, formats_of
from numeric_formats.progress import Report, quiet
from predictor.columns import (
    ALL,
    ALONE,
    KIND,
    LAYER,
    MODULE,
    NETWORK,
    SHARE,
    WITHOUT,
    N,
    angle_column,
    high_column,
    low_column,
)
from predictor.flow.layers import module_of
from predictor.flow.points import Point, Quantizer
from predictor.gradient.angle import FAILED, degrees, layer_sums
from predictor.gradient.gradients import Gradients, layer_of
from predictor.gradient.quantizers import activation_quantizer, error_quantizer, round_in_dtype
from predictor.measuring.session import MEASURE, Measuring
from predictor.measuring.units import Subject, check_minibatches, used_batch_size
from predictor.scheme import Preset, Scheme, scheme_of
from predictor.statistics import angle_interval
from workloads.digests import digest, weights_digest
from workloads.workload import Workload

EVERYTHING = "WAEG"
"""The kind of the row that rounds all four."""
COLUMNS = (
    KIND,
    LAYER,
    MODULE,
    *(column(which) for which in (ALONE, WITHOUT) for column in (angle_column, low_column, high_column)),
    SHARE,
    N,
)
DEFAULT_MINIBATCHES = 4
GRADIENTS_OF_KINDS, FORWARDS_OF_KINDS = 7, 3
"""Backward and forward passes of a mini-batch for the rows of kinds; the full-precision ones are not counted."""


class TensorKind(StrEnum):
    """What is rounded: weight, activation, error, weight gradient."""

    W = "W"
    A = "A"
    E = "E"
    G = "G"


@dataclass(frozen=True)
class Estimate:
    """What an attribution is going to do.

    Attributes:
        points: on the network.
        rows: of the table.
        minibatches: how many.
        gradients: quantized gradients to compute.
        seconds: about how long it takes, from the first mini-batch.
    """

    points: int
    rows: int
    minibatches: int
    gradients: int
    seconds: float


@dataclass(frozen=True)
class _Row:
    """Angles in degrees on one mini-batch."""

    kind: str
    layer: str
    alone: float
    without: float


def _layers(gradients: Gradients) -> dict[TensorKind, list[str]]:
    """The layers in which each kind of tensor is rounded, in the order of the network."""
    of_points = list(dict.fromkeys(point.layer for point in gradients.flow.points if not point.exact))
    weights = list(dict.fromkeys(layer_of(name) for name in gradients.weights))
    return {TensorKind.W: weights, TensorKind.A: of_points, TensorKind.E: of_points, TensorKind.G: weights}


def _gradients_a_minibatch(layers: dict[TensorKind, list[str]]) -> int:
    """How many backward passes there are; gradients are rounded without one."""
    return GRADIENTS_OF_KINDS + 2 * sum(len(layers[kind]) for kind in (TensorKind.W, TensorKind.A, TensorKind.E))


def in_layers(quantizer: Quantizer, chosen: Callable[[str], bool]) -> Quantizer:
    """A quantizer that leaves the points of all other layers as they are."""

    def quantize(x: Tensor, point: Point) -> Tensor:
        return quantizer(x, point) if chosen(point.layer) else x.clone()

    return quantize


class _Cells:
    """The angles of one mini-batch with some of its tensors rounded."""

    def __init__(self, gradients: Gradients, format: Candidate, counted: Callable[[], None]):
        self.gradients, self.counted = gradients, counted
        self.forward_format, self.backward_format = formats_of(format)
        self.activation = activation_quantizer(self.forward_format, gradients.scheme)
        self.error = error_quantizer(self.backward_format, gradients.scheme)
        self.layers = np.array([layer_of(name) for name in gradients.names])

    def rows(self) -> Iterator[_Row]:
        """Everything, the kinds, then every layer of each kind."""
        gradients = self.gradients
        with gradients.rounded_weights(self.forward_format):
            everything = gradients.forward(self.activation)
            full_errors = self._backward(everything, self.error)
            exact_errors = self._backward(everything, None)
        before, after = self._sums(full_errors), self._sums(self._rounded(full_errors))
        yield _Row(EVERYTHING, ALL, degrees(after.sum(0)), float("nan"))
        loss = gradients.forward(self.activation)
        activations = self._angle(self._backward(loss, None))
        all_but_weights = self._angle_with_g(self._backward(loss, self.error))
        with gradients.rounded_weights(self.forward_format):
            loss = gradients.forward(None)
            weights = self._angle(self._backward(loss, None))
            all_but_activations = self._angle_with_g(self._backward(loss, self.error))
        del loss
        yield _Row(TensorKind.W, ALL, weights, all_but_weights)
        yield _Row(TensorKind.A, ALL, activations, all_but_activations)
        errors = self._angle(self._backward(gradients.loss, self.error))
        yield _Row(TensorKind.E, ALL, errors, self._angle_with_g(exact_errors))
        own, unchanged = self._sums(self._rounded(gradients.full)), self._sums(gradients.full)
        yield _Row(TensorKind.G, ALL, degrees(own.sum(0)), degrees(before.sum(0)))

        layers = _layers(gradients)
        for layer in layers[TensorKind.W]:
            yield _Row(TensorKind.W, layer, self._weights_alone(layer), self._without_weights(layer))
        for layer in layers[TensorKind.A]:
            yield _Row(TensorKind.A, layer, self._activations_alone(layer), self._without_activations(layer))
        for layer in layers[TensorKind.E]:
            alone = self._angle(self._backward(gradients.loss, in_layers(self.error, layer.__eq__)))
            with gradients.rounded_weights(self.forward_format):
                found = self._backward(everything, in_layers(self.error, layer.__ne__))
            yield _Row(TensorKind.E, layer, alone, self._angle_with_g(found))
        for layer in layers[TensorKind.G]:
            # The gradient of one layer is rounded after the fact, so sums of other cells serve.
            here = (self.layers == layer)[:, None]
            yield _Row(
                TensorKind.G,
                layer,
                degrees(np.where(here, own, unchanged).sum(0)),
                degrees(np.where(here, before, after).sum(0)),
            )

    def _weights_alone(self, layer: str) -> float:
        with self.gradients.rounded_weights(self.forward_format, self._weights(layer.__eq__)):
            return self._angle(self._last_backward(None, None))

    def _without_weights(self, layer: str) -> float:
        with self.gradients.rounded_weights(self.forward_format, self._weights(layer.__ne__)):
            return self._angle_with_g(self._last_backward(self.activation, self.error))

    def _activations_alone(self, layer: str) -> float:
        return self._angle(self._last_backward(in_layers(self.activation, layer.__eq__), None))

    def _without_activations(self, layer: str) -> float:
        with self.gradients.rounded_weights(self.forward_format):
            return self._angle_with_g(self._last_backward(in_layers(self.activation, layer.__ne__), self.error))

    def _weights(self, chosen: Callable[[str], bool]) -> list[str]:
        return [name for name in self.gradients.weights if chosen(layer_of(name))]

    def _last_backward(self, activation: Quantizer | None, error: Quantizer | None) -> list[Tensor]:
        """The gradients of a forward pass that serves no other."""
        return self._backward(self.gradients.forward(activation), error, keep=False)

    def _backward(self, loss: Tensor, error: Quantizer | None, keep: bool = True) -> list[Tensor]:
        found = self.gradients.backward(loss, error, keep)
        self.counted()
        return found

    def _rounded(self, found: Sequence[Tensor]) -> list[Tensor]:
        """Gradients rounded by themselves, those of layers kept exact aside."""
        return [
            round_in_dtype(self.backward_format, g) if name in self.gradients.weights else g
            for name, g in zip(self.gradients.names, found, strict=True)
        ]

    def _sums(self, found: Sequence[Tensor]) -> NDArray[np.float64]:
        return layer_sums(found, self.gradients.full)

    def _angle(self, found: Sequence[Tensor]) -> float:
        return degrees(self._sums(found).sum(0))

    def _angle_with_g(self, found: Sequence[Tensor]) -> float:
        return self._angle(self._rounded(found))


def estimate(
    workload: Workload,
    format: str | Candidate,
    minibatches: int | None = None,
    *,
    batch_size: int | None = None,
    exact: Sequence[str] = (),
    scheme: Scheme | str = Preset.PAPER,
    two_terms: bool = True,
) -> Estimate:
    """What `attribute` with these arguments would do, and about how long it would take."""
    chosen = candidate(format)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    rules = scheme_of(scheme, two_terms=two_terms)
    with Subject(workload, exact, rules).gradients(batches[0]) as gradients:
        layers = _layers(gradients)
        points = len(gradients.flow.points)
        for_activation, for_error = formats_of(chosen)
        activation, error = activation_quantizer(for_activation, rules), error_quantizer(for_error, rules)
        for _ in range(2):  # the first compiles what is not in the cache
            began = time.monotonic()
            loss = gradients.forward(activation)
            forward = time.monotonic() - began
            gradients.backward(loss, error, keep=False)
            backward = time.monotonic() - began - forward
    each, count = _gradients_a_minibatch(layers), len(batches)
    forwards = FORWARDS_OF_KINDS + 2 * (len(layers[TensorKind.W]) + len(layers[TensorKind.A]))
    rows = 1 + len(layers) + sum(map(len, layers.values()))
    return Estimate(points, rows, count, each * count, count * (forwards * forward + each * backward))


def attribute(
    workload: Workload,
    format: str | Candidate,
    minibatches: int | None = None,
    *,
    batch_size: int | None = None,
    exact: Sequence[str] = (),
    scheme: Scheme | str = Preset.PAPER,
    two_terms: bool = True,
    progress: Report = quiet,
) -> pd.DataFrame:
    """The angles in degrees that each kind of tensor and each layer causes, alone, and those that remain without it.

    KeyboardInterrupt ends it early: rows that were finished on at least one mini-batch are returned, and
    `attrs["complete"]` is False; where there is none, it is raised again.

    Args:
        workload: the network, its loss and its mini-batches.
        format: rounds W, A, E and G, each with its own scale rule; of a pair, the first rounds W and A, the second E
            and G.
        minibatches: how many; by default 4, or all where there are fewer.
        batch_size: examples of a mini-batch, by default the workload's.
        exact: layers kept in full precision, which get no rows.
        scheme: by which activations and errors are rounded: `paper`, `current`, `authors`, or a `Scheme`.
        two_terms: whether inputs and last errors are rounded in two terms.
        progress: hears of every quantized gradient.

    Returns:
        The columns `COLUMNS`, first the row of everything (kind "WAEG"), then the kinds (layer "all"), then the layers
        of each kind in the order of the network: W and G by the module that holds the parameters, A and E by that of
        the points. module: that module's class. alone: only this is rounded; without: everything else is. Means with
        95% t-intervals over n mini-batches. share: tan^2 of the angle alone, over the sum of the four
        kinds or of all layers of all kinds. `attrs` holds all that reproduces the table.

    Raises:
        ValueError: an argument is out of range, or the workload cannot be measured.
    """
    chosen = candidate(format)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    rules = scheme_of(scheme, two_terms=two_terms)
    measuring = Measuring(workload, exact, rules, progress=progress)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    done, total, complete = 0, 0, True
    began = time.monotonic()

    def counted() -> None:
        nonlocal done
        done += 1
        measuring.report(MEASURE, done, total)

    try:
        for batch in batches:
            with measuring.opened(batch) as gradients:
                total = total or len(batches) * _gradients_a_minibatch(_layers(gradients))
                for row in _Cells(gradients, chosen, counted).rows():
                    found.setdefault((row.kind, row.layer or NETWORK), []).append((row.alone, row.without))
    except KeyboardInterrupt:
        if not found:
            raise
        complete = False
    table = _tabulate(found, workload)
    table.attrs = {
        "workload": workload.name,
        "weights": weights_digest(workload.model),
        "data": digest(list(batches)),
        "formats": {chosen.name: chosen.digest},
        "minibatches": len(batches),
        "batch_size": used_batch_size(workload, batch_size),
        "exact": list(exact),
        "gradients": done,
        "complete": complete,
        "seconds": time.monotonic() - began,
    }
    table.attrs.update(rules.settings)
    return table


def _tabulate(found: dict[tuple[str, str], list[tuple[float, float]]], workload: Workload) -> pd.DataFrame:
    """The table from the angles alone and without, of each kind and layer on each mini-batch."""
    rows = []
    for (kind, layer), angles in found.items():
        alone, without = np.array(angles).T
        module = module_of(workload.model, layer)
        rows.append((kind, layer, module, *angle_interval(alone), *angle_interval(without), np.nan, len(angles)))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    # Beyond 90 degrees the tangent falls again.
    power = np.tan(np.radians(table[angle_column(ALONE)].clip(upper=FAILED))) ** 2
    kinds = (table[LAYER] == ALL) & (table[KIND] != EVERYTHING)
    for mine in (kinds, table[LAYER] != ALL):
        table.loc[mine, SHARE] = power[mine] / (power[mine].sum() or 1.0)
    return table
