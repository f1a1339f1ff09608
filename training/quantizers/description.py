"""How a layer's input or output is quantized, as values that an export holds and that quantizers are made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

import formats
from numeric_formats.checks import not_allowed, number
from predictor.flow.sites import OneToOne
from training.quantizers.clipped import Clipped, range_clip
from training.quantizers.integers import asymmetric, asymmetric_range
from training.quantizers.learned import quantize_by_step

_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class AtAbsmax:
    """A format at each tensor's largest magnitude. format: its name."""

    kind: ClassVar[str] = "absmax"
    format: str

    def quantizer(self) -> OneToOne:
        """What quantizes so."""
        return Clipped(self.format).at_absmax


@dataclass(frozen=True)
class AtThreshold:
    """A format at a clipping threshold. format: its name."""

    kind: ClassVar[str] = "threshold"
    format: str
    threshold: float

    def quantizer(self) -> OneToOne:
        """What quantizes so."""
        clipped, threshold = Clipped(self.format), torch.tensor(self.threshold)
        return lambda x: clipped(x, threshold)


@dataclass(frozen=True)
class OwnRange:
    """Integers with a zero point over each tensor's own range."""

    kind: ClassVar[str] = "range"
    bits: int

    def quantizer(self) -> OneToOne:
        """What quantizes so."""
        return lambda x: asymmetric_range(x, self.bits)


@dataclass(frozen=True)
class FixedRange:
    """Integers with a zero point over the range from low to high."""

    kind: ClassVar[str] = "fixed-range"
    bits: int
    low: float
    high: float

    def quantizer(self) -> OneToOne:
        """What quantizes so."""
        low, high = torch.tensor(self.low), torch.tensor(self.high)
        return lambda x: asymmetric(x, low, high, self.bits)


@dataclass(frozen=True)
class FixedStep:
    """Integers from low to high at a step that was learned, and an offset where there is one."""

    kind: ClassVar[str] = "step"
    step: float
    offset: float | None
    low: int
    high: int

    def quantizer(self) -> OneToOne:
        """What quantizes so."""
        step, offset = torch.tensor(self.step), None if self.offset is None else torch.tensor(self.offset)
        return lambda x: quantize_by_step(x, step, self.low, self.high, 1.0, offset)


@dataclass(frozen=True)
class PartOfRange:
    """Clipped to `factor` times each tensor's own range, and not rounded."""

    kind: ClassVar[str] = "clip"
    factor: float

    def quantizer(self) -> OneToOne:
        """What clips so."""
        return lambda x: range_clip(x, self.factor)


Description = AtAbsmax | AtThreshold | OwnRange | FixedRange | FixedStep | PartOfRange
KINDS = {made.kind: made for made in (AtAbsmax, AtThreshold, OwnRange, FixedRange, FixedStep, PartOfRange)}


def to_plain(description: Description | None) -> dict[str, Any] | None:
    """As JSON has it: the kind, and what that kind needs."""
    return None if description is None else {"kind": description.kind, **asdict(description)}


def from_plain(plain: dict[str, Any] | None) -> Description | None:
    """What `to_plain` gave. Raises ValueError for a kind that there is not, and for values that it cannot have."""
    if plain is None:
        return None
    if plain["kind"] not in KINDS:
        raise not_allowed("quantizer", plain["kind"], KINDS)
    made = KINDS[plain["kind"]](**{key: value for key, value in plain.items() if key != "kind"})
    for key, value in asdict(made).items():
        if key == "format":
            formats.get(value, files=False)  # a file's name in data is not to run it
        elif value is not None or key != "offset":
            number(f"quantizer {made.kind}: {key}", value, *_BOUNDS.get(key, _ANY), whole=key in _whole(made))
    return made


_ANY = -_LARGEST, _LARGEST
_BOUNDS = {"bits": (1, 15), "step": (0, _LARGEST), "threshold": (0, _LARGEST), "factor": (0, 1)}


def _whole(description: Description) -> tuple[str, ...]:
    return ("low", "high") if isinstance(description, FixedStep) else ("bits",)
