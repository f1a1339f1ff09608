"""Scales as axes of a ranking: every candidate with each headroom, scale policy or block size."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from formats import Format, Granularity, ProfileFormat, Scale, ScalePolicy
from formats.pairs import Candidate, Pair


class Axis(StrEnum):
    """What a sweep varies: binades left free, how a scale is found from the largest magnitude, and elements that share
    one."""

    HEADROOM = "headroom"
    SCALE = "scale"
    BLOCK = "block"


Axes = Mapping[Axis, Sequence[Any]]
"""Numbers of binades, policies, numbers of elements."""


def parse_axes(texts: Iterable[str]) -> dict[Axis, list[Any]]:
    """Axes from texts such as headroom=0,1,2, scale=floor,rceil and block=16,32.

    >>> parse_axes(["headroom=0,1"])
    {<Axis.HEADROOM: 'headroom'>: [0, 1]}
    """
    axes: dict[Axis, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().lower()
        if not equals or name not in tuple(Axis):
            raise ValueError(
                f"sweep {text!r}: an axis is headroom=0,1,2, scale=floor,ceil,even,rceil or block=16,32,64"
            )
        axis = Axis(name)
        if axis in axes:
            raise ValueError(f"sweep {text!r}: axis {axis} was given before; put all its values in one list")
        axes[axis] = [_value(axis, value.strip().lower(), text) for value in values.split(",")]
    return axes


def _value(axis: Axis, value: str, text: str) -> int | ScalePolicy:
    if axis is Axis.SCALE:
        if value not in tuple(ScalePolicy):
            raise ValueError(f"sweep {text!r}: {value!r} is no scale policy; allowed are {', '.join(ScalePolicy)}")
        return ScalePolicy(value)
    if not value.isdecimal():
        what = "a number of binades from 0" if axis is Axis.HEADROOM else "a number of elements from 1"
        raise ValueError(f"sweep {text!r}: {value!r} is not {what}")
    return int(value)


def sweep(candidates: Sequence[Candidate], axes: Axes) -> list[Candidate]:
    """Every candidate with every combination of the axes' values in its scale; each once, by content.

    Args:
        candidates: Formats and pairs; both formats of a pair get the same scale.
        axes: Values by axis. A headroom or policy replaces the candidate's own; a block size puts runs of so many
            elements along the last axis in the place of its tensor, channel or block scale.

    Returns:
        Candidate by candidate, the last axis fastest.

    Raises:
        ValueError: Formats whose scale is not found from data by a policy (standards at their fixed bias, codebooks, a
            user's own objects), and values that a scale refuses.
    """
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    made = [_with(entry, values) for entry in candidates for values in combinations]
    return list({entry.digest: entry for entry in made}.values())


def _with(entry: Candidate, values: Mapping[Axis, Any]) -> Candidate:
    if isinstance(entry, Pair):
        return Pair(_format_with(entry.activation, values), _format_with(entry.error, values))
    return _format_with(entry, values)


def _format_with(format: Format, values: Mapping[Axis, Any]) -> Format:
    if not values:
        return format
    if not isinstance(format, ProfileFormat):
        raise ValueError(
            f"{format.name} cannot be swept: only formats with a precision profile find their scale from data by a "
            "policy"
        )
    scale = format.scale
    if Axis.BLOCK in values:
        scale = Scale(per=Granularity.BLOCK, block=values[Axis.BLOCK], headroom=scale.headroom, policy=scale.policy)
    scale = replace(
        scale, headroom=values.get(Axis.HEADROOM, scale.headroom), policy=values.get(Axis.SCALE, scale.policy)
    )
    # A format that has this scale already keeps the name that its user gave it.
    return format if scale == format.scale else format.with_scale(scale)
