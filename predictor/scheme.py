"""How training rounds activations and errors, whatever their formats: what is measured is what is trained
(docs/definitions/prediction.md section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from formats import CodebookFormat, Format, ProfileFormat
from formats.scale import MOST_HEADROOM, Granularity
from numeric_formats.checks import not_allowed, number, one_of
from predictor.effects import Points

YES_OR_NO = ("no", "yes")


class ScaleRule(StrEnum):
    """Whether the scale of activations, errors and gradients comes from the tensors before (delayed) or from the tensor
    itself (current)."""

    DELAYED = "delayed"
    CURRENT = "current"


class Preset(StrEnum):
    """Schemes that have a name: the paper's (delayed scales that leave a binade free, two for weight gradients); the
    current scale, which leaves none; and the paper's as its authors' code has it."""

    PAPER = "paper"
    CURRENT = "current"
    AUTHORS = "authors"


class WeightChannels(StrEnum):
    """Which weights have one scale an output channel; the others have one a tensor. Those of convolutions; or those of
    all layers in fixed-point and logarithmic formats, and none in others."""

    CONVOLUTIONS = "convolutions"
    LOG_AND_INT = "log-and-int"


@dataclass(frozen=True)
class Scheme:
    """The rules by which tensors are rounded, the same in measuring and in training.

    The scale is that of precision profiles and codebooks with one scale a tensor; other formats follow their own rule.
    A measurement has no steps before it: a delayed scale stands where it comes to rest, with the largest magnitude
    `headroom` binades below the top.

    Attributes:
        scale: Of activations, errors and weight gradients: `delayed` or `current`.
        headroom: Binades that the scale of activations and errors leaves free.
        gradient_headroom: The same of weight gradients, which are rounded in training.
        two_terms: Whether inputs of the network and errors of its last points are rounded in two terms.
        branches: Whether errors that meet at a fork are rounded each by itself, and their sum is not.
        last_error: The scale of errors of the network's last points, where `scale` is delayed.
        weight_scale: That of weights: `current`, or `delayed` without headroom.
        weight_channels: Which weights have one scale an output channel.
        settling: Forward and backward passes in which delayed scales settle before the first step.
        rounded_decay: Whether SGD's sum of gradient and weight decay is rounded to the master format.
        all_parameters: Whether gradients and masters of normalization parameters and biases have their formats too.
        best_epoch: Whether the metric that a run reports is that of its best epoch, not of its last.

    Raises:
        ValueError: For a rule or a number that means nothing.

    Source:
        docs/definitions/training.md section 1, after Lee, Park, Jeon, ICLR 2022.

    >>> Scheme() == PAPER, CURRENT.headroom
    (True, 0)
    """

    scale: ScaleRule | str = ScaleRule.DELAYED
    headroom: int = 1
    gradient_headroom: int = 2
    two_terms: bool = True
    branches: bool = False
    last_error: ScaleRule | str = ScaleRule.DELAYED
    weight_scale: ScaleRule | str = ScaleRule.CURRENT
    weight_channels: WeightChannels | str = WeightChannels.CONVOLUTIONS
    settling: int = 0
    rounded_decay: bool = False
    all_parameters: bool = False
    best_epoch: bool = False

    def __post_init__(self) -> None:
        for name in ("scale", "last_error", "weight_scale"):
            object.__setattr__(self, name, one_of(name.replace("_", " "), ScaleRule, getattr(self, name)))
        object.__setattr__(self, "weight_channels", one_of("weight channels", WeightChannels, self.weight_channels))
        for name in ("headroom", "gradient_headroom"):
            number(name.replace("_", " "), getattr(self, name), 0, MOST_HEADROOM, whole=True)
        number("settling", self.settling, 0, whole=True)

    def at_rest(self, format: Format) -> Format:
        """The format with which activations and errors are measured: its scale is found from the tensor itself and
        leaves the scheme's headroom free, unless the format's name has one."""
        return with_headroom(format, self.headroom)

    @property
    def measured(self) -> tuple[int, bool, bool]:
        """What of it decides the bits of a measurement. The rest is of steps, which a measurement has none of: a
        delayed scale is at rest where the current one with the same headroom is."""
        return self.headroom, self.two_terms, self.branches

    @property
    def name(self) -> str:
        """The preset that it is or that is nearest, and the parts in which it differs, as `scheme_of` reads them; but
        for two terms."""
        mine, found = asdict(replace(self, two_terms=True)), ""
        for preset, scheme in PRESETS.items():
            parts = [f"{key}={_written(mine[key])}" for key, value in asdict(scheme).items() if value != mine[key]]
            name = ",".join((preset.value, *parts))
            if not found or name.count(",") < found.count(","):
                found = name
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """Its name and all parts, as plain values."""
        parts = {key: str(value) if isinstance(value, StrEnum) else value for key, value in asdict(self).items()}
        return {"scheme": self.name, **parts}

    @classmethod
    def recorded(cls, settings: Mapping[str, Any]) -> Scheme | None:
        """The scheme that a result's sidecar records; None where there is no sidecar. Results from before schemes
        were recorded are of the current scale."""
        if not settings:
            return None
        if "headroom" not in settings:
            return replace(CURRENT, two_terms=settings.get("two_terms", True))
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})


PAPER = Scheme()
CURRENT = Scheme(ScaleRule.CURRENT, headroom=0, gradient_headroom=0)
AUTHORS = Scheme(
    branches=True,
    last_error=ScaleRule.CURRENT,
    weight_scale=ScaleRule.DELAYED,
    weight_channels=WeightChannels.LOG_AND_INT,
    settling=100,
    rounded_decay=True,
    all_parameters=True,
    best_epoch=True,
)
PRESETS = {Preset.PAPER: PAPER, Preset.CURRENT: CURRENT, Preset.AUTHORS: AUTHORS}


def with_all_parts(settings: Any) -> Any:
    """Recorded settings, in which earlier versions left out the parts that no scheme had: these are the paper's."""
    if not isinstance(settings, Mapping):
        return settings
    return {key: value for key, value in PAPER.settings.items() if key != "scheme"} | dict(settings)


def is_delayable(format: Format) -> bool:
    """Whether a format takes a top exponent that the caller keeps: precision profiles and codebooks with one scale a
    tensor."""
    return isinstance(format, ProfileFormat | CodebookFormat) and format.granularity is Granularity.TENSOR


def with_headroom(format: Format, headroom: int) -> Format:
    """A format whose tensor scale leaves so many binades free, unless it says itself how many; formats with other
    scales as they are."""
    if not is_delayable(format) or not headroom:
        return format
    assert isinstance(format, ProfileFormat | CodebookFormat)  # is_delayable
    own = format.scale.headroom
    return format if own is not None else format.with_scale(replace(format.scale, headroom=headroom))


def scale_in_schemes(format: Format) -> str:
    """What schemes make of a format's scale where it rounds activations and errors, in words."""
    if not is_delayable(format):
        return "the same scale in every scheme"
    assert isinstance(format, ProfileFormat | CodebookFormat)  # is_delayable
    if (own := format.scale.headroom) is not None:
        return f"headroom {own} in every scheme, its own"
    said = ", ".join(f"{scheme.headroom} ({preset})" for preset, scheme in PRESETS.items())
    return f"headroom of A and E by the scheme: {said}"


def _written(value: Any) -> str:
    """A part's value as a name holds it."""
    return YES_OR_NO[value] if isinstance(value, bool) else str(value)


def _read(part: str) -> tuple[str, Any]:
    """A part's name and value out of KEY=VALUE."""
    key, _, text = part.partition("=")
    plain = {field.name: field.default for field in fields(Scheme)}
    if key not in plain:
        raise not_allowed("part of a scheme", part, [f"{name}={_written(value)}" for name, value in plain.items()])
    if isinstance(plain[key], bool):
        if text not in YES_OR_NO:
            raise not_allowed(key, text, YES_OR_NO)
        return key, bool(YES_OR_NO.index(text))
    if isinstance(plain[key], int):
        if not text.isdecimal():
            raise ValueError(f"{key} {text!r}: a whole number is needed")
        return key, int(text)
    return key, text


def scheme_of(
    given: Scheme | str = Preset.PAPER,
    *,
    scale: ScaleRule | str | None = None,
    headroom: int | None = None,
    two_terms: bool = True,
) -> Scheme:
    """A scheme by its name or as it is, with some of its parts changed.

    Args:
        given: `paper`, `current`, `authors`, one of these with parts of `Scheme` that differ behind it
            (`paper,branches=yes,settling=20`), or a scheme.
        scale: `delayed` or `current`; with `current`, no binade is left free unless `headroom` says so.
        headroom: Binades that the scale of activations and errors leaves free.
        two_terms: False rounds network inputs and last errors in one term.

    Raises:
        ValueError: For another name, or parts that mean nothing.
    """
    if not isinstance(given, Scheme):
        preset, *parts = given.split(",")
        given = PRESETS[one_of("scheme", Preset, preset)]
        given = replace(given, **dict(map(_read, parts))) if parts else given
    if scale is not None and one_of("scale", ScaleRule, scale) is not given.scale:
        like = CURRENT if scale == ScaleRule.CURRENT else PAPER
        given = replace(given, scale=like.scale, headroom=like.headroom, gradient_headroom=like.gradient_headroom)
    if headroom is not None:
        given = replace(given, headroom=headroom)
    return given if two_terms else replace(given, two_terms=False)


def rules_at(points: Points | str, scheme: Scheme | str | None, two_terms: bool = True) -> tuple[Points, Scheme]:
    """Where formats are rounded, and by which rules: in data flow those of a scheme, by default the paper's; at
    operands every format as its own name says, which is what recipes do.

    Raises:
        ValueError: For other points, and for a scheme at operands.
    """
    at = one_of("points", Points, points)
    if at is Points.DATAFLOW:
        return at, scheme_of(Preset.PAPER if scheme is None else scheme, two_terms=two_terms)
    if not two_terms or (scheme is not None and scheme_of(scheme) != CURRENT):
        given = "one term" if not two_terms else f"scheme {scheme_of(scheme or Preset.PAPER).name}"
        raise ValueError(
            f"{given} was given with points operands, where formats are rounded as their names say: leave it out, or "
            "name headroom in the format, as in FP134/headroom1"
        )
    return at, CURRENT
