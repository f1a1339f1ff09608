"""The report: results as one page that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from numeric_formats.files import write_atomically
from predictor.columns import BITS, FAMILY, NAME, PROFILE, RANK, RECIPE
from predictor.risk import WITHIN
from reports import results
from reports.page import ranking, recipes
from reports.page.parts import SOURCE, Section

ENDINGS = (".html",)
LONG = 8
"""So many entries of a setting are shown; digests have their own table."""


def _hash(script: str) -> str:
    """What a page's policy names a script by that it allows."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _pairs(entries: dict[str, Any]) -> str:
    """A row for every entry."""

    def text(value: Any) -> str:
        if isinstance(value, dict | list) and len(value) > LONG:
            return f"{len(value)} entries"
        return value if isinstance(value, str) else json.dumps(value)

    return "\n".join(
        f'<tr><th>{escape(key)}</th><td class="code">{escape(text(value))}</td></tr>' for key, value in entries.items()
    )


def _head(section: Section) -> str:
    """The first that is read of a result."""
    words = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in section.meanings.items())
    return (
        f'<h1>{escape(section.title)}</h1>\n<p class="verdict">{escape(section.verdict)}</p>\n'
        f'<p class="faint">{escape(section.summary)}</p>\n<dl class="meanings">{words}</dl>'
    )


def _folded(title: str, entries: dict[str, Any]) -> str:
    """A table that is shown when it is asked for."""
    table = f'<div class="scroll" tabindex="0"><table><tbody>{_pairs(entries)}</tbody></table></div>'
    return f"<details><summary>{escape(title)}</summary>{table}</details>"


def _made(section: Section) -> str:
    """How a result was made."""
    sidecar, settings = section.sidecar, section.sidecar.get("settings", {})
    told = (
        {key: value for key, value in sidecar.items() if key not in ("settings", "versions")}
        | {key: value for key, value in settings.items() if settings[key] != section.digests}
        | {f"version of {package}": version for package, version in sidecar.get("versions", {}).items()}
    )
    return _folded(f"{section.title}: settings and versions", told) + _folded("Digests", section.digests)


def page(sections: Sequence[Section], files: Sequence[str], output: str) -> str:
    """A page as HTML.

    Args:
        sections: A ranking's, recipes', or both.
        files: The names of the results' files, as commands have them.
        output: That of the page.

    Returns:
        All of the page: it fetches nothing.
    """
    made = [each.command for each in sections if each.command is not None]
    made.append(shlex.join(["formats", "report", *files, "--html", output]))
    scripts = [(SOURCE / "chart.js").read_text("utf-8"), *(each.script for each in sections)]
    return Template((SOURCE / "report.html").read_text("utf-8")).substitute(
        title=escape("; ".join(each.title for each in sections)),
        policy=" ".join(f"'sha256-{_hash(script)}'" for script in scripts),
        heads="\n".join(map(_head, sections)),
        bodies="\n".join(each.body for each in sections),
        commands='<pre id="commands" tabindex="0">' + escape("\n".join(made)) + "</pre>",
        made="\n".join(map(_made, sections)),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        css=(SOURCE / "report.css").read_text("utf-8"),
    )


def section_of(path: Path, within: float = WITHIN) -> Section:
    """What a page shows of a result file.

    Raises:
        ValueError: The file is damaged, or neither a ranking nor recipes.
    """
    table, sidecar = results.read(path), results.sidecar(path)
    if RECIPE in table.columns:
        return recipes.section(recipes.checked(path, table), sidecar, path.name)
    if absent := [column for column in (RANK, NAME, BITS, FAMILY, PROFILE) if column not in table.columns]:
        raise ValueError(f"{path} has no column {absent[0]!r}; give what formats rank or recipes wrote")
    return ranking.section(ranking.checked(path, table), sidecar, path.name, within)


def write(files: Sequence[Path], output: Path, within: float = WITHIN) -> None:
    """Make the page of results.

    Args:
        files: What `results.write` wrote of a ranking, of recipes, or one of each.
        output: Where the page goes.
        within: The gap of formats that count as good as float32.

    Raises:
        ValueError: A file is damaged or neither of these, or two are of one kind.
    """
    sections = [section_of(path, within) for path in files]
    if len({each.script for each in sections}) < len(sections):
        raise ValueError("a page has one ranking and one table of recipes; make a page of each of these")
    write_atomically(output, page(sections, [path.name for path in files], output.name))
