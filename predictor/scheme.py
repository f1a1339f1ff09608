"""How training rounds activations and errors, whatever their formats: what is measured is what is trained
(docs/definitions/prediction.md section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from formats import Format, ProfileFormat
from formats.scale import MOST_HEADROOM, Granularity
from numeric_formats.checks import number, one_of


class ScaleRule(StrEnum):
    """Whether the scale of activations, errors and gradients comes from the tensors before (delayed) or from the tensor
    itself (current)."""

    DELAYED = "delayed"
    CURRENT = "current"


class Preset(StrEnum):
    """Schemes that have a name: the paper's (delayed scales that leave a binade free, two for weight gradients), and
    the current scale, which leaves none."""

    PAPER = "paper"
    CURRENT = "current"


@dataclass(frozen=True)
class Scheme:
    """The rules by which activations, errors and weight gradients are rounded, the same in measuring and in training.

    The scale is that of precision profiles with one scale a tensor; other formats follow their own rule. A measurement
    has no steps before it: a delayed scale stands where it comes to rest, with the largest magnitude `headroom`
    binades below the top.

    Attributes:
        scale: `delayed` or `current`.
        headroom: Binades that the scale of activations and errors leaves free.
        gradient_headroom: The same of weight gradients, which are rounded in training.
        two_terms: Whether inputs of the network and errors of its last points are rounded in two terms.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", one_of("scale", ScaleRule, self.scale))
        for name in ("headroom", "gradient_headroom"):
            number(name.replace("_", " "), getattr(self, name), 0, MOST_HEADROOM, whole=True)

    def at_rest(self, format: Format) -> Format:
        """The format with which activations and errors are measured: its scale is found from the tensor itself and
        leaves the scheme's headroom free, unless the format's name has one."""
        return with_headroom(format, self.headroom)

    @property
    def measured(self) -> tuple[int, bool]:
        """What of it decides the bits of a measurement."""
        return self.headroom, self.two_terms

    @property
    def name(self) -> str:
        """The preset that it is, but for two terms; else its parts in words."""
        for preset, scheme in PRESETS.items():
            if replace(self, two_terms=True) == scheme:
                return preset.value
        return f"{self.scale}, headroom {self.headroom} ({self.gradient_headroom} for weight gradients)"

    @property
    def settings(self) -> dict[str, Any]:
        """Its name and all parts, as plain values."""
        return {"scheme": self.name, **asdict(self), "scale": str(self.scale)}

    @classmethod
    def recorded(cls, settings: Mapping[str, Any]) -> Scheme | None:
        """The scheme that a result's sidecar records; None where there is no sidecar. Results from before schemes
        were recorded are of the current scale."""
        if not settings:
            return None
        if "headroom" not in settings:
            return replace(CURRENT, two_terms=settings.get("two_terms", True))
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


PAPER = Scheme()
CURRENT = Scheme(ScaleRule.CURRENT, headroom=0, gradient_headroom=0)
PRESETS = {Preset.PAPER: PAPER, Preset.CURRENT: CURRENT}


def is_delayable(format: Format) -> bool:
    """Whether a format takes a top exponent that the caller keeps: precision profiles with one scale a tensor."""
    return isinstance(format, ProfileFormat) and format.granularity is Granularity.TENSOR


def with_headroom(format: Format, headroom: int) -> Format:
    """A precision profile with a tensor scale that leaves so many binades free, unless its name says how many; other
    formats as they are."""
    if not is_delayable(format) or not headroom:
        return format
    assert isinstance(format, ProfileFormat)  # is_delayable
    return format if format.scale.headroom else format.with_scale(replace(format.scale, headroom=headroom))


def headroom_needed(scheme: Scheme) -> ValueError:
    """The refusal of a headroom of 0 where a scheme leaves some."""
    return ValueError(
        f"headroom 0: scheme {scheme.name} leaves {scheme.headroom} free where a format says none; give numbers from "
        "1, or scheme current"
    )


def scheme_of(
    given: Scheme | str = Preset.PAPER,
    *,
    scale: ScaleRule | str | None = None,
    headroom: int | None = None,
    two_terms: bool = True,
) -> Scheme:
    """A scheme by its name or as it is, with some of its parts changed.

    Args:
        given: `paper`, `current`, or a scheme.
        scale: `delayed` or `current`; with `current`, no binade is left free unless `headroom` says so.
        headroom: Binades that the scale of activations and errors leaves free.
        two_terms: False rounds network inputs and last errors in one term.

    Raises:
        ValueError: For another name, or parts that mean nothing.
    """
    if not isinstance(given, Scheme):
        given = PRESETS[one_of("scheme", Preset, given)]
    if scale is not None and one_of("scale", ScaleRule, scale) is not given.scale:
        given = CURRENT if scale == ScaleRule.CURRENT else PAPER
    if headroom is not None:
        given = replace(given, headroom=headroom)
    return given if two_terms else replace(given, two_terms=False)
