"""Argument words are named once, and nothing reads or packs them but by name."""

import ast
import struct

import numpy as np
import pytest
from numba import float64, int64, njit
from numba.core.errors import TypingError

from formats.kernel import threads
from formats.kernel.threads import task, task_for_each_size
from formats.kernel.words import BITS, NUMBER, UNSIGNED, Words
from tests.imports import HOME, modules

WORDS = Words(first=NUMBER, x=float64[::1], pair="left right", seed=UNSIGNED, found=int64[::1])
DECORATORS = {"task", "task_for_each_size"}


@task(WORDS)
def read_all(w):
    found = w.found
    found[0], found[1], found[2], found[3], found[4] = w.first, w.left, w.right, int64(w.seed), int64(w.x[2])


SIZED = Words(x=BITS, found=int64[::1])


@task_for_each_size(SIZED)
def read_bits(w):
    w.found[0] = w.x[1]


def test_words_are_read_by_the_names_that_they_were_packed_by():
    found, x = np.zeros(5, np.int64), np.array([0.0, 1.0, 7.0])
    words = WORDS.pack(found=found, seed=2**64 - 1, pair=(-3, 4), x=x, first=2)
    threads.run(read_all, words, 1)
    assert found.tolist() == [2, -3, 4, -1, 7]


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 0x3F800000), (np.float64, 0x3FF0000000000000)])
def test_a_task_for_each_size_of_number(dtype, bits):
    found, x = np.zeros(1, np.int64), np.ones(2, dtype)
    threads.run(read_bits[x.itemsize], SIZED.pack(x=x, found=found), 1)
    assert found[0] == bits


def test_words_that_are_missing_unknown_or_of_another_number():
    with pytest.raises(TypeError, match="found"):
        SIZED.pack(x=np.zeros(1))
    with pytest.raises(TypeError, match="y"):
        SIZED.pack(x=np.zeros(1), found=np.zeros(1), y=1)
    with pytest.raises(struct.error, match="expected 6 items"):
        WORDS.pack(first=0, x=np.zeros(1), pair=(1, 2, 3), seed=0, found=np.zeros(1))
    with pytest.raises(ValueError, match="left, right, left: each name may stand once"):
        Words(pair="left right", left=NUMBER)


def test_a_word_that_is_not_named_does_not_compile():
    def function(w):
        w.found[0] = w.second

    with pytest.raises(TypingError, match="Unknown attribute 'second'"):
        task(WORDS)(function).address  # noqa: B018
    with pytest.raises(TypingError):
        njit((WORDS.type_for(),))(lambda w: w[0])


def tasks(source):
    """The functions of a module that are made compiled tasks."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            called = {
                each.func.id for each in node.decorator_list if isinstance(each, ast.Call) and hasattr(each.func, "id")
            }
            if called & DECORATORS:
                yield node


def indexed_by_number(function):
    """Where a function takes a word by its number."""
    (words,) = (argument.arg for argument in function.args.args)
    return [
        ast.unparse(node)
        for node in ast.walk(function)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == words
    ]


def test_no_compiled_task_takes_a_word_by_its_number():
    found = [(path, task) for path in modules() for task in tasks((HOME / path).read_text())]
    assert len(found) >= 12
    for path, function in found:
        assert not indexed_by_number(function), path
    (bad,) = tasks("@task(WORDS)\ndef f(w):\n    w.found[0] = w[14]")
    assert indexed_by_number(bad) == ["w[14]"]


def test_nothing_else_reads_bare_memory():
    for path in modules():
        names = {node.id for node in ast.walk(ast.parse((HOME / path).read_text())) if isinstance(node, ast.Name)}
        assert not names & {"carray", "farray"}, path
