"""Whatever a library raises about a file is one line that names it."""

import io
import pickle
import tokenize
import warnings
import zipfile
import zlib

import pytest

from numeric_formats.damage import archive_of, reading


@pytest.mark.parametrize(
    "error",
    [
        *(zlib.error("Error -3"), NotImplementedError("method 99"), tokenize.TokenError("EOF"), MemoryError("16 TiB")),
        *(IndexError("index out of range"), AssertionError(), RecursionError("too deep"), AttributeError("'bytes'")),
        *(pickle.UnpicklingError("two\nlines"), OSError("cannot identify image file"), KeyError("state")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_error_is_a_line_that_names_the_file(error):
    with (
        pytest.raises(ValueError, match=r"^a/w\.pth cannot be read as weights: .+") as raised,
        reading("a/w.pth", "weights"),
    ):
        raise error
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_ctrl_c_stay_what_they_are():
    with pytest.raises(FileNotFoundError), reading("w", "weights"):
        open("nowhere").close()
    with pytest.raises(KeyboardInterrupt), reading("w", "weights"):
        raise KeyboardInterrupt


def test_what_a_file_says_reaches_no_terminal():
    with pytest.raises(ValueError, match=r"\\x1b\[31mred"), reading("w", "weights"):
        raise KeyError("\x1b[31mred")


def test_what_libraries_warn_of_is_not_said():
    with reading("w", "weights"):
        warnings.warn("possible bomb", UserWarning, stacklevel=1)


def zipped(*names, comment=b""):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.comment = comment
        for name in names:
            archive.writestr(name, b"content")
    return made.getvalue()


@pytest.mark.parametrize(
    "content", [zipped(), zipped("a", "é/b"), zipped("a", comment=b"said"), b"before" + zipped("a")]
)
def test_whole_archives_are_opened(content):
    with archive_of(io.BytesIO(content)) as archive:
        assert archive.testzip() is None


def test_entries_behind_a_damaged_one_are_missed():
    content = bytearray(zipped("a", "b", "c"))
    content[content.index(b"PK\x01\x02") + 32] = 200  # the length of the first one's comment
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["a"]
    with (
        pytest.raises(ValueError, match="its directory is damaged: 1 of 3 entries are found"),
        archive_of(io.BytesIO(content)),
    ):
        pass
