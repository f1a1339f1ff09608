"""Weights: a master that the optimizer moves, and the quantized value that the network computes with
(docs/definitions/training.md sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from formats import CodebookFormat, Format, ProfileFormat, Rounding
from formats.scale import Granularity
from predictor.gradients import measured_parameters
from training.delayed import Places, RoundingCounts
from training.scheme import TensorFormats, mode_arguments, per_channel


class Streams:
    """Numbers for stochastic rounding: one seed, and a stream for every call, counted on."""

    def __init__(self, seed: int):
        self.seed = seed
        self.next = 0

    def take(self) -> int:
        """A stream that was never given out before."""
        self.next += 1
        return self.next - 1

    def arguments(self, rounding: Rounding, previous: Tensor | None = None) -> dict[str, Any]:
        """What `Format.round` needs for a mode; a stochastic one takes a stream. previous: of hysteresis."""
        stream = self.take() if rounding is Rounding.STOCHASTIC else 0
        return mode_arguments(rounding, self.seed, stream, previous)


@dataclass(frozen=True)
class Group:
    """What a weight's learning rate and weight decay are multiplied by; weights of equal groups share one of the
    optimizer's.

    Attributes:
        rate: Of the learning rate.
        decay: Of weight decay.
        own: A name that sets a weight apart, so that its learning rate can be changed alone.
    """

    rate: float = 1.0
    decay: float = 1.0
    own: str = ""


class Weight:
    """One parameter of the network in training, on any device. Modes other than to nearest are those of the CPU, where
    copies are rounded.

    Attributes:
        name: Of the parameter.
        parameter: The network's own, which holds w_q between steps.
        master: What the optimizer moves; its `grad` is the gradient after rounding.
        quantized: False for normalization parameters and biases, which stay float32 all through.
        group: Of the optimizer.
    """

    def __init__(
        self,
        name: str,
        parameter: nn.Parameter,
        quantized: bool,
        channels: int | None,
        formats: TensorFormats,
        streams: Streams,
    ):
        self.name, self.parameter, self.quantized = name, parameter, quantized
        self.group = Group()
        self._streams, self._rounding = streams, formats.weight_rounding
        self._master_format = formats.master if quantized else None
        self._master_rounding = formats.master_rounding
        format = formats.weight if quantized else None
        self._format: Format | None = format if format is None or channels is None else per_channel(format, channels)
        start = parameter.detach().clone()
        # To nearest at the start: there is no step yet whose mean stochastic rounding would keep.
        self.master = nn.Parameter(
            start if self._master_format is None else self._master_format.round(start), requires_grad=False
        )
        if self._format is None:
            # One tensor is both; the optimizer moves the network's own.
            parameter.data.copy_(self.master.data)
            self.master.data = parameter.data
        else:
            w = self.master.data.cpu()
            parameter.data.copy_(self._format.round(w, **self._top_argument(w)[0]))

    def _top_argument(self, w: Tensor) -> tuple[dict[str, Any], Any]:
        """The scale found from master values, as an argument of `round`, and as exponents; none where the format keeps
        it to itself."""
        if isinstance(self._format, ProfileFormat | CodebookFormat):
            top = self._format.find_top(w)
            return {"top": top}, top
        return {}, None

    def round_master(self, values: Tensor) -> None:
        """Q_M, in place; the identity where the master is float32."""
        if self._master_format is None:
            return
        values.copy_(self._master_format.round(values.cpu(), **self._streams.arguments(self._master_rounding)))

    def _largest(self, w: Tensor, argument: dict[str, Any]) -> Tensor:
        """The largest value at each element's scale, in a shape that broadcasts to w's."""
        assert isinstance(self._format, ProfileFormat | CodebookFormat)  # has a scale as an argument
        scale = self._format.scale
        if scale.per is Granularity.BLOCK:
            return torch.as_tensor(self._format.round(torch.full_like(w, np.inf), **argument))
        shape = [1] * w.ndim
        if scale.axis is not None:
            shape[scale.axis] = w.shape[scale.axis]
        return torch.as_tensor(self._format.round(torch.full(shape, np.inf), **argument))

    def requantize(self) -> RoundingCounts | None:
        """w_q from the master and, for hysteresis, from the w_q before; what that did. None where the weight is not
        quantized."""
        if self._format is None:
            return None
        w, before = self.master.data.cpu(), self.parameter.data.cpu()
        argument, top = self._top_argument(w)
        after: Tensor = self._format.round(w, **argument, **self._streams.arguments(self._rounding, before))
        overflows = None
        if top is not None:
            overflows = int((w.abs() > self._largest(w, argument)).sum())
        seen = RoundingCounts(
            "W",
            self.name,
            0,
            w.numel(),
            None if top is None else int(np.min(top)),
            None if top is None else int(np.max(top)),
            overflows,
            int(((after == 0) & (w != 0)).sum()),
            int((after != before).sum()),
        )
        self.parameter.data.copy_(after)
        return seen

    def take_gradient(self, gradient: Tensor | None, places: Places | None) -> None:
        """Set the master's gradient: rounded where the weight is quantized."""
        if gradient is not None and self.quantized and places is not None:
            gradient = places.round(gradient, self.name)
        self.master.grad = gradient


def _channel_axes(model: nn.Module) -> Iterator[tuple[int, int]]:
    """The identity of each convolution's weight, and the axis of its output channels."""
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            yield id(module.weight), 1 if module.transposed else 0


def weights_of(model: nn.Module, formats: TensorFormats, streams: Streams) -> list[Weight]:
    """The parameters of a network that are trained, quantized as the formats say; the parameters hold w_q afterwards.

    Quantized are those of two or more dimensions outside normalization layers; those of convolutions with one scale an
    output channel.
    """
    quantized, axes = measured_parameters(model), dict(_channel_axes(model))
    return [
        Weight(name, parameter, id(parameter) in quantized, axes.get(id(parameter)), formats, streams)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]


@contextmanager
def masters_in_place(weights: Sequence[Weight]) -> Iterator[None]:
    """Inside, the network computes with the master weights in the place of the rounded ones."""
    own = [(weight.parameter, weight.parameter.data) for weight in weights]
    try:
        for weight in weights:
            weight.parameter.data = weight.master.data
        yield
    finally:
        for parameter, values in own:
            parameter.data = values
