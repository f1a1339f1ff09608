"""The pickles of CIFAR are data: nothing in them runs, and no memory is read that they point to."""

import io
import pickle
import resource

import numpy as np
import pytest

from workloads.data.cifar import _unpickled

NUMBERS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.arange(4, dtype=">f4"),
    np.arange(4, dtype="<i2"),
]


@pytest.mark.parametrize("values", NUMBERS, ids=lambda values: values.dtype.str)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_arrays_of_numbers_are_read(values, protocol):
    found = _unpickled(pickle.dumps({b"data": values, "more": [values, 3]}, protocol), "file")
    assert np.array_equal(found["data"], values)
    assert found["data"].shape == values.shape
    assert np.array_equal(found["more"][0], values)


class Runs:
    """What a pickle can ask for."""

    def __init__(self, function, arguments):
        self.asked = function, arguments

    def __reduce__(self):
        return self.asked


def with_state(code, state):
    """A pickle of a dtype of this code and state, as an attacker would write it."""
    made = io.BytesIO()
    pickler = pickle._Pickler(made, 2)
    pickler.proto = 2
    made.write(b"\x80\x02}U\x06labelscnumpy\ndtype\n")
    pickler.save((code, False, True))
    made.write(b"R")
    pickler.save(state)
    made.write(b"bs.")
    return made.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"labels": Runs(eval, ("1",))}),
        pickle.dumps({"labels": np.array([object()], dtype=object)}),
        pickle.dumps({"labels": np.zeros(2, [("a", "O")])}),
        pickle.dumps({"labels": np.zeros(2, "U3")}),
        with_state("V8", (4, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)),
        with_state("i8", (4, "|", None, ("a",), {"a": (1, 0)}, 8, 1, 0)),
        b"",
        b"\x80\x02}",
        b"\x80\x05\x96" + bytes(5) + b"\x01\0\0",
        b"\x80\x02}q\0U\x01aq\1]q\2h\2as.",
        b"\x80\x02]" + b"]" * 3000 + b"a" * 3000 + b".",
    ],
    ids=[
        *("code", "objects", "a field of objects", "text", "fields by a state", "fields on numbers", "empty", "cut"),
        *("bytes without end", "a list in itself", "no dictionary"),
    ],
)
def test_anything_else_is_refused_by_a_line(content):
    with pytest.raises(ValueError, match=r"file is no file of CIFAR's python version \("):
        _unpickled(content, "file")


def test_more_elements_than_bytes_are_refused():
    whole = pickle.dumps({"data": np.arange(6, dtype=np.uint8)}, 2)
    assert whole.count(b"K\x06\x85") == 1
    with pytest.raises(ValueError, match="file is no file of CIFAR"):
        _unpickled(whole.replace(b"K\x06\x85", b"K\x60\x85"), "file")


def test_a_place_far_away_takes_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert _unpickled(b"\x80\x02}r\xff\xff\xff\x7f.", "file") == {}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
