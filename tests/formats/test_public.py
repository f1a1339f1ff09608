"""Every public name has a docstring with an example, and all examples of the package give what they say."""

import doctest
import importlib
import pkgutil
import re

import pytest

import formats

VALUES = ("STANDARDS",)
"""Public names that are neither classes nor functions: their example is in the package's docstring."""


def outcome(document, name):
    """How many examples a docstring has and how many fail, in a namespace of their own."""
    test = doctest.DocTestParser().get_doctest(document, {}, name, None, None)
    return len(test.examples), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed


@pytest.mark.parametrize("name", formats.__all__)
def test_every_public_name_has_an_example_that_runs(name):
    document = formats.__doc__ if name in VALUES else getattr(formats, name).__doc__
    examples, failed = outcome(document, name)
    assert examples
    assert not failed
    if name in VALUES:
        assert re.search(rf">>> .*\b{name}\b", document)


def test_values_are_all_that_has_no_docstring_of_its_own():
    others = [
        name
        for name in formats.__all__
        if not (isinstance(getattr(formats, name), type) or callable(getattr(formats, name)))
    ]
    assert others == list(VALUES)


@pytest.mark.parametrize("module", [entry.name for entry in pkgutil.walk_packages(formats.__path__, "formats.")])
def test_examples_of_all_modules(module):
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not found.failed
