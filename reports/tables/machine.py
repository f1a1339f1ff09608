"""This machine: times, and the store of measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from numeric_formats.messages import counted
from reports.tables.layout import Part, plain

if TYPE_CHECKING:
    from predictor.measuring.store import Info


def times(title: str, units: Sequence[str], rows: Sequence[Sequence[str]]) -> Part:
    """Rows of text: what was timed, and numbers in these units."""
    return plain(title, [("what", "left"), *((unit, "right") for unit in units)], rows)


def store(held: Info) -> list[Part]:
    """Where measurements are kept, how many there are, and on what they were made."""
    formats, batches = counted(held.formats, "format"), counted(held.minibatches, "mini-batch")
    parts: list[Part] = [
        f"{held.path}: {counted(held.measurements, 'measurement')} of {formats} on {batches}; "
        f"{held.bytes / 1e6:.1f} MB; {held.set_aside} older or damaged files set aside"
    ]
    if held.contexts:
        headers = [
            *((name, "left") for name in ("weights", "torch", "device")),
            *((name, "right") for name in ("threads", "measurements")),
        ]
        rows = [
            [of["weights"][:12], of["torch"], of["device"], str(of["threads"]), str(of["measurements"])]
            for of in held.contexts
        ]
        parts.append(plain("made on", headers, rows))
    return parts
