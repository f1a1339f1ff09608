"""Refusals of arguments, in the words that all of ours share: what was given, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from numbers import Real
from typing import TypeVar

Choice = TypeVar("Choice", bound=StrEnum)


def not_allowed(name: str, given: object, allowed: Iterable[object]) -> ValueError:
    """The error for a choice that there is not; `name` says which argument it was given for."""
    return ValueError(f"{name} {given!r}: allowed are {', '.join(map(str, allowed))}")


def one_of(name: str, kind: type[Choice], given: str) -> Choice:
    """The member of an enumeration; ValueError that lists them where there is none such."""
    try:
        return kind(given)
    except ValueError:
        raise not_allowed(name, given, kind) from None


def at_least(what: str, given: float, least: float = 1) -> None:
    """ValueError below the least. what: the number with its unit, such as "3 workers"."""
    if not given >= least:
        raise ValueError(f"{what}: at least {least:g} is needed")


def number(
    name: str, given: object, low: float, high: float = math.inf, *, whole: bool = False, unit: str = ""
) -> None:
    """ValueError unless a finite number, or a whole one, lies in [low, high]. unit: what it counts, in the plural."""
    kind = isinstance(given, int) and not isinstance(given, bool) if whole else isinstance(given, Real)
    if not kind or not low <= given <= high or math.isinf(given):  # type: ignore[operator, arg-type]
        what = ("whole " if whole else "") + "number" + (f" of {unit}" if unit else "")
        span = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} {given!r}: a {what} {span} is needed")
