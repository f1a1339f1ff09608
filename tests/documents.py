"""What pages hold for a reader to run: blocks of Python and of commands, in order.

A comment on the line above a block says what the tests do with it, and nothing to the reader of the rendered page:

    <!-- tested with: --minibatches 1 -->   these options are added to each command of the block, so that it is quick
    <!-- output varies -->                  what it printed is not compared
    <!-- not run: WHY -->                   it is not run at all

Python whose first line is a comment `# NAME.py` is a file of that name, which commands may use.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.command import run

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- (?P<remark>[^\n]*) -->\n)?```(?P<language>\w*)[^\n]*\n(?P<text>.*?)```\n?", re.S)
REMARKS = ("tested with: ", "output varies", "not run: ")


@dataclass(frozen=True)
class Block:
    """language: python, sh, text, ... remark: the comment above, "" for none. output: the text block that follows right
    after, None for none."""

    language: str
    text: str
    remark: str
    output: str | None = None

    @property
    def run(self) -> bool:
        return not self.remark.startswith("not run: ")

    @property
    def compared(self) -> bool:
        """Whether the tests print what the page shows."""
        return self.output is not None and not self.remark

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line, with what the tests add to them."""
        added = (
            shlex.split(self.remark.removeprefix("tested with: ")) if self.remark.startswith("tested with: ") else []
        )
        lines = [shlex.split(line, comments=True) for line in self.text.splitlines()]
        return [[*words, *added] for words in lines if words]


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, included files in their place; ValueError for a remark that nothing follows from."""
    page = re.sub(r'^--8<-- "(.*)"$', lambda found: (ROOT / found[1]).read_text().rstrip("\n"), page, flags=re.M)
    found: list[Block] = []
    end = 0
    for match in BLOCK.finditer(page):
        remark, language, text = match["remark"] or "", match["language"], match["text"]
        if remark and not remark.startswith(REMARKS):
            raise ValueError(f"remark {remark!r}: allowed are {', '.join(REMARKS)}")
        if language == "text" and found and found[-1].language == "sh" and not page[end : match.start()].strip():
            found[-1] = Block("sh", found[-1].text, found[-1].remark, text)
        else:
            found.append(Block(language, text, remark))
        end = match.end()
    return found


def run_python(page: str, name: str) -> dict:
    """Run all Python of a page in one namespace, which is returned."""
    names: dict = {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, name, "exec"), names)
    return names


def check_page(page: str, name: str, folder: Path) -> dict:
    """Run all Python and all commands of a page in a folder, and compare what these print with what the page shows;
    the names that the Python leaves."""
    names = run_python(page, name)
    for block in blocks(page):
        if block.language == "python" and (file := re.match(r"# (\w+\.py)\b", block.text)):
            (folder / file[1]).write_text(block.text)
        if block.language == "sh" and block.run:
            printed = ""
            for program, *arguments in block.commands:
                assert program == "formats"
                printed += run(*arguments, cwd=folder).stdout
            if block.compared:
                assert agrees(printed, block.output), f"{block.text}has printed\n{printed}"
    return names


def agrees(printed: str, shown: str) -> bool:
    """Whether a command has printed what a page shows, where a line ... stands for any lines; space at the ends of
    lines does not count."""

    def bare(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")

    lines = [re.escape(line) if line != "..." else r"(?:.*\n)*?.*" for line in bare(shown).splitlines()]
    return re.fullmatch("\n".join(lines), bare(printed)) is not None
