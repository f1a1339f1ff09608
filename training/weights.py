"""Weights: a master that the optimizer moves, and the quantized value that the network computes with
(docs/definitions/training.md sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from formats import CodebookFormat, Format, ProfileFormat, Rounding
from formats.checks import mode_arguments
from formats.scale import Granularity, ScalePolicy
from predictor.gradient.gradients import measured_parameters
from predictor.scheme import ScaleRule, WeightChannels
from training.delayed import Places, RoundingCounts, change_of_top
from training.freezing import Freezing
from training.oscillation import Turns
from training.scheme import TensorFormats, per_channel


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
        in_formats: Whether gradient, master and momentum have their formats; else they stay float32 all through.
        rounding: Of w_q.
        rounds_decay: Whether the sum of gradient and weight decay is rounded to the master format.
        tops: A delayed scale's top exponents, int64 of shape (2, groups): of w_q as it is, and of the next one; None
            where the scale is that of the master, or the format keeps it to itself.
        turns: How w_q oscillates; None where the network computes with the master.
        freezing: Which of its values are fixed; None where none ever is.
        group: Of the optimizer.

    Args:
        name: See above.
        parameter: Likewise.
        given: The formats of the run.
        streams: For stochastic rounding.
        format: Of w_q, with its granularity; None where the network computes with the master.
        in_formats: See above.
    """

    def __init__(
        self,
        name: str,
        parameter: nn.Parameter,
        given: TensorFormats,
        streams: Streams,
        format: Format | None = None,
        in_formats: bool = False,
    ):
        self.name, self.parameter, self.in_formats = name, parameter, in_formats
        self.group, self.rounding = Group(), given.weight_rounding
        self.rounds_decay = given.scheme.rounded_decay
        self._streams, self._format = streams, format
        self._master_format = given.master if in_formats else None
        self._master_rounding = given.master_rounding
        start = parameter.detach().clone()
        # To nearest at the start: there is no step yet whose mean stochastic rounding would keep.
        self.master = nn.Parameter(
            start if self._master_format is None else self._master_format.round(start), requires_grad=False
        )
        self.tops: Tensor | None = None
        self.turns: Turns | None = None
        self.freezing: Freezing | None = None
        self._used: Any = None
        if self._format is None:
            # One tensor is both; the optimizer moves the network's own.
            parameter.data.copy_(self.master.data)
            self.master.data = parameter.data
        else:
            if given.scheme.weight_scale is ScaleRule.DELAYED and is_trackable(self._format):
                found = as_floor_rule(self._format).find_top(self.master.data.cpu())
                self.tops = torch.from_numpy(np.stack([found, found]))
            self.take_up()
            w = self.master.data.cpu()
            parameter.data.copy_(self._format.round(w, **self._argument(self._used)))
            self.turns = Turns(parameter.data)

    def tracked(self) -> dict[str, Tensor]:
        """What is kept of the steps before, by what it is called in a checkpoint."""
        kept = {"tops": self.tops, "turns": None if self.turns is None else self.turns.since}
        kept |= {} if self.freezing is None else vars(self.freezing)
        return {name: tensor for name, tensor in kept.items() if tensor is not None}

    def take_up(self) -> None:
        """Find the scale of w_q as it is, after the master or `tops` were filled in."""
        self._used = self._top(self.master.data.cpu()) if self.tops is None else self.tops[0].numpy().copy()

    def _top(self, w: Tensor) -> Any:
        """The scale by which master values are rounded now, as exponents; None where the format keeps it to itself."""
        if self.tops is not None:
            return self.tops[1].numpy().copy()
        return self._format.find_top(w) if isinstance(self._format, ProfileFormat | CodebookFormat) else None

    @staticmethod
    def _argument(top: Any) -> dict[str, Any]:
        """A scale as an argument of `round`."""
        return {} if top is None else {"top": top}

    def round_master(self, values: Tensor) -> None:
        """Q_M, in place; the identity where the master is float32."""
        if self._master_format is None:
            return
        values.copy_(self._master_format.round(values.cpu(), **self._streams.arguments(self._master_rounding)))

    def _largest(self, w: Tensor, top: Any, sign: int = 1) -> Tensor:
        """The largest value at each element's scale, or with sign -1 the least, in a shape that broadcasts to w's."""
        assert isinstance(self._format, ProfileFormat | CodebookFormat)  # has a scale as an argument
        scale, argument = self._format.scale, self._argument(top)
        if scale.per is Granularity.BLOCK:
            return torch.as_tensor(self._format.round(torch.full_like(w, sign * np.inf), **argument))
        shape = [1] * w.ndim
        if scale.axis is not None:
            shape[scale.axis] = w.shape[scale.axis]
        return torch.as_tensor(self._format.round(torch.full(shape, sign * np.inf), **argument))

    def requantize(self) -> RoundingCounts | None:
        """w_q from the master and, for hysteresis, from the w_q before; what that did. None where the weight is not
        quantized."""
        if self._format is None or self.turns is None:
            return None
        w, before = self.master.data.cpu(), self.parameter.data.cpu()
        top, mode = self._top(w), self._streams.arguments(self.rounding, before)
        after = self._rounded(w, top, mode)
        flipped, by_scale, overflows = after != before, None, None
        if top is not None:
            beyond = w.abs() > self._largest(w, top)
            overflows, by_scale = int(beyond.sum()), 0
            if not np.array_equal(top, self._used):
                kept = self._rounded(w, self._used, mode) == before
                by_scale = int((flipped & kept).sum())
            if self.tops is not None:
                self._move(after, beyond)
            self._used = top
        seen = RoundingCounts(
            "W",
            self.name,
            0,
            w.numel(),
            None if top is None else int(np.min(top)),
            None if top is None else int(np.max(top)),
            overflows,
            int(((after == 0) & (w != 0)).sum()),
            int(flipped.sum()),
            flips_by_scale=by_scale,
            oscillations=self.turns.see(before, after),
        )
        self.parameter.data.copy_(after)
        return seen

    def _rounded(self, w: Tensor, top: Any, mode: dict[str, Any]) -> Tensor:
        """By a scale in the mode; frozen values to nearest, so that they stay what they are."""
        assert self._format is not None
        found: Tensor = self._format.round(w, **self._argument(top), **mode)
        if self.freezing is None or not self.freezing.frozen.any():
            return found
        return torch.where(self.freezing.frozen, self._format.round(w, **self._argument(top)), found)

    def dampen(self, strength: float) -> None:
        """Add the gradient of strength * |clip(w) - w_q|^2 to that of the master, w_q held fast; clip is to the range
        of the scale in use, where the format does not keep it to itself."""
        if self.master.grad is None:
            return
        w = self.master.data.cpu()
        pull = w - self.parameter.data.cpu()
        if self._used is not None:
            beyond = (w > self._largest(w, self._used)) | (w < self._largest(w, self._used, -1))
            pull.masked_fill_(beyond, 0.0)
        self.master.grad = self.master.grad + pull.mul_(2 * strength).to(self.master.device)

    def freeze(self, threshold: float) -> None:
        """Fix the master's values that flip back too often, at the value nearest to their average."""
        assert self._format is not None  # it is quantized
        assert self.turns is not None
        if self.freezing is not None:
            values, format, used = self.parameter.data.cpu(), self._format, self._argument(self._used)
            if self.freezing.see(values, self.turns.back, threshold, lambda each: format.round(each, **used)):
                self.hold()

    def hold(self) -> None:
        """Put the master's frozen values back to what they are fixed at."""
        if self.freezing is not None:
            master = self.master.data.cpu()
            self.master.data.copy_(torch.where(self.freezing.frozen, self.freezing.average, master))

    def _move(self, rounded: Tensor, beyond: Tensor) -> None:
        """The delayed scale of the next step, from what was rounded by the one in use."""
        assert isinstance(self._format, ProfileFormat)  # is_trackable
        assert self.tops is not None  # it is tracked
        axis = self._format.scale.axis
        others = [k for k in range(rounded.ndim) if axis is None or k != axis % rounded.ndim]
        largest, saturated = rounded.abs().amax(others).double().numpy(), beyond.amax(others).numpy()
        self.tops[0] = self.tops[1]
        changed = self.tops[1].numpy() + change_of_top(
            self.tops[1].numpy(), largest, saturated, self._format.scale.room
        )
        self.tops[1] = torch.as_tensor(np.clip(changed, *self._format.top_range))

    def take_gradient(self, gradient: Tensor | None, places: Places | None) -> None:
        """Set the master's gradient: rounded where it is in formats."""
        if gradient is not None and self.in_formats and places is not None:
            gradient = places.round(gradient, self.name)
        self.master.grad = gradient


def is_trackable(format: Format) -> bool:
    """Whether a format takes top exponents that the caller keeps: precision profiles with one scale a tensor or
    channel."""
    return isinstance(format, ProfileFormat) and format.granularity is not Granularity.BLOCK


def as_floor_rule(format: Format) -> ProfileFormat:
    """A profile whose first scale is found by the rule of delayed ones, whatever its own policy."""
    assert isinstance(format, ProfileFormat)  # is_trackable
    if format.scale.policy is ScalePolicy.FLOOR:
        return format
    return format.with_scale(replace(format.scale, policy=ScalePolicy.FLOOR))


def is_log_or_int(format: Format) -> bool:
    """Whether a format is a precision profile that is logarithmic (one significant bit in every binade) or fixed
    point."""
    return isinstance(format, ProfileFormat) and (set(format.profile) == {1} or format.two_complement)


def _convolution_axes(model: nn.Module) -> Iterator[tuple[int, int]]:
    """The identity of each convolution's weight, and the axis of its output channels."""
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            yield id(module.weight), 1 if module.transposed else 0


def weights_of(model: nn.Module, given: TensorFormats, streams: Streams) -> list[Weight]:
    """The parameters of a network that are trained, quantized as the formats say; the parameters hold w_q afterwards.

    Quantized are those of two or more dimensions outside normalization layers. Which of them have one scale an output
    channel, the scheme says; outside convolutions that is the first axis.
    """
    measured, axes, format = measured_parameters(model), dict(_convolution_axes(model)), given.weight
    made = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_weight, axis = id(parameter) in measured, axes.get(id(parameter))
        if given.scheme.weight_channels is WeightChannels.LOG_AND_INT and format is not None:
            axis = (axis or 0) if is_log_or_int(format) else None
        own = format if format is None or axis is None else per_channel(format, axis)
        in_formats = is_weight or given.scheme.all_parameters
        made.append(Weight(name, parameter, given, streams, own if is_weight else None, in_formats))
    return made


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
