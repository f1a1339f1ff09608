"""The methods by name, and methods from text as the command line has it."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, get_args, get_type_hints

from formats import Format
from numeric_formats.checks import not_allowed
from training.methods.combined import combine
from training.methods.compensation import Compensation
from training.methods.dai8 import DistributionAdaptiveInt8
from training.methods.lsq import LSQ
from training.methods.lsqplus import LSQPlus
from training.methods.method import Method
from training.methods.octo import Octo
from training.methods.slb import SLB
from training.methods.ui8 import UnifiedInt8
from training.quantizers.known_ranges import KnownRanges

METHODS: dict[str, Any] = {
    made.about.name: made for made in (Octo, Compensation, DistributionAdaptiveInt8, UnifiedInt8, LSQ, LSQPlus, SLB)
}
"""The methods by the names that the command line takes."""


def _parsed(text: str, kind: Any, option: str) -> Any:
    """A value from text by the type that an option has; the option's own check says which values mean something."""
    kinds = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if type(None) in kinds and text.lower() == "none":
        return None
    if bool in kinds:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{option} {text!r}: true or false is needed")
        return text.lower() == "true"
    for wanted in (int, float):
        if wanted in kinds:
            try:
                return wanted(text)
            except ValueError:
                raise ValueError(f"{option} {text!r}: a {'whole ' if wanted is int else ''}number is needed") from None
    return text


def method_from(names: Sequence[str], options: Sequence[str] = (), ranges: KnownRanges | None = None) -> Method:
    """A method from names and options as text.

    Args:
        names: Of `METHODS`; several are combined.
        options: Each "key=value", or "method.key=value" where several methods have it.
        ranges: Of calibration, for methods that learn steps.

    Returns:
        The method, for `training.train`.

    Raises:
        ValueError: For names and options that do not exist, values that mean nothing, methods that do not go together,
            and ranges where no method learns steps.
    """
    for name in names:
        if name not in METHODS:
            raise not_allowed("method", name, METHODS)
    kinds = {name: get_type_hints(METHODS[name]) for name in names}
    allowed = {name: [entry.name for entry in fields(METHODS[name])] for name in names}
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    if ranges is not None:
        learning = [name for name in names if "ranges" in allowed[name]]
        if not learning:
            able = [name for name, kind in METHODS.items() if any(entry.name == "ranges" for entry in fields(kind))]
            raise ValueError(
                f"method {' and '.join(names)} learns no steps to begin with ranges of calibration; "
                f"{' and '.join(able)} do"
            )
        for name in learning:
            given[name]["ranges"] = ranges
    for option in options:
        key, equals, value = option.partition("=")
        owner, dot, bare = key.rpartition(".")
        owners = [name for name in names if bare in allowed[name] and (not dot or owner == name)]
        if not equals or not owners:
            listed = "; ".join(f"{name}: {', '.join(allowed[name])}" for name in names)
            raise ValueError(f"option {option!r}: KEY=VALUE is needed, with a key of {listed}")
        if len(owners) > 1:
            raise ValueError(
                f"option {option!r}: {' and '.join(owners)} have it; write {owners[0]}.{option} or {owners[1]}.{option}"
            )
        given[owners[0]][bare] = _parsed(value, kinds[owners[0]][bare], key)
    return combine([METHODS[name](**given[name]) for name in names])


def described() -> list[dict[str, Any]]:
    """A row for each method: what `About` says, and its options with their defaults."""
    return [
        {**asdict(made.about), "options": {entry.name: _plain(entry.default) for entry in fields(made)}}
        for made in METHODS.values()
    ]


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Format) else value
