"""Which format each tensor of training has, and how it is rounded (docs/definitions/training.md section 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from formats import Format, Rounding
from formats.lookup import FULL_PRECISION, name_of
from formats.number_format import check_rounds
from formats.scale import Granularity
from numeric_formats.checks import not_allowed
from predictor.scheme import PAPER, Scheme

FormatOrNone = Format | None


def per_channel(format: Format, axis: int) -> Format:
    """A format with one scale a channel instead of one a tensor; as it is where it has blocks, channels or a constant
    scale already."""
    with_scale = getattr(format, "with_scale", None)
    if with_scale is None or getattr(format, "granularity", None) is not Granularity.TENSOR:
        return format
    scale = format.scale  # type: ignore[attr-defined]
    changed: Format = with_scale(replace(scale, per=Granularity.CHANNEL, axis=axis))
    return changed


def _check_rounding(role: str, format: FormatOrNone, rounding: Rounding, allowed: tuple[Rounding, ...]) -> None:
    """ValueError where the mode is not allowed, or the format cannot round in it."""
    if rounding not in allowed:
        raise not_allowed(f"{role} rounding", rounding.value, allowed)
    if format is None:
        return
    try:
        check_rounds(format, rounding, torch.ones(1, 1))
    except ValueError as error:
        raise ValueError(f"{role} format {error}") from None


@dataclass(frozen=True)
class TensorFormats:
    """The format of each tensor of training, and how it is rounded; None for a format leaves float32.

    Args:
        activation: Format of activations.
        error: Of errors.
        weight: Of weights.
        gradient: Of weight gradients.
        master: Of master weights and their momentum.
        weight_rounding: `nearest`, `stochastic` or `hysteresis`.
        master_rounding: `nearest` or `stochastic`.
        scheme: The rules by which activations, errors and gradients are rounded.

    Raises:
        ValueError: For a mode that does not exist, or that the format does not have.

    Source:
        docs/definitions/training.md section 1.
    """

    activation: FormatOrNone
    error: FormatOrNone
    weight: FormatOrNone
    gradient: FormatOrNone
    master: FormatOrNone
    weight_rounding: Rounding = Rounding.HYSTERESIS
    master_rounding: Rounding = Rounding.STOCHASTIC
    scheme: Scheme = PAPER

    def __post_init__(self) -> None:
        _check_rounding(
            "weight", self.weight, self.weight_rounding, (Rounding.NEAREST, Rounding.STOCHASTIC, Rounding.HYSTERESIS)
        )
        _check_rounding("master", self.master, self.master_rounding, (Rounding.NEAREST, Rounding.STOCHASTIC))

    @property
    def settings(self) -> dict[str, Any]:
        """Names and digests of the formats, and the rest, as plain values."""
        roles = ("activation", "error", "weight", "gradient", "master")
        given = {role: getattr(self, role) for role in roles}
        return {
            **{role: name_of(format) for role, format in given.items()},
            **{f"{role}_digest": FULL_PRECISION if format is None else format.digest for role, format in given.items()},
            "weight_rounding": self.weight_rounding.value,
            "master_rounding": self.master_rounding.value,
            **self.scheme.settings,
        }
