"""For the reference: examples in docstrings (lines after >>>) are shown as code, as Python's doctest reads them."""

import re

from griffe import Extension, Object


class Doctests(Extension):
    """Puts a fence around every run of lines from a prompt to the next blank one."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring and ">>>" in obj.docstring.value:
            obj.docstring.value = re.sub(
                r"(?ms)^>>> .*?(?=\n\s*\n|\Z)", lambda found: f"\n```pycon\n{found[0]}\n```\n", obj.docstring.value
            )
