"""What is particular to the compiled loops: their cases of their own give what the general ones give."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import formats
from formats import Scale, kernel
from formats.kernel.threads import Task, _stamp
from formats.kernel.words import NUMBER, Words
from tests.imports import modules, used_by
from tests.processes import python

RNG = np.random.default_rng(11)


def any_bits(shape):
    """Float32 of any bits, NaN and infinities included."""
    return RNG.integers(0, 1 << 32, shape, dtype=np.uint64).astype(np.uint32).view(np.float32)


def same(a, b):
    return a.tobytes() == b.tobytes()


def test_nothing_is_compiled_before_it_is_called():
    script = (
        "import gc, formats, numpy as np; from formats import kernel; from formats.kernel.threads import Task;"
        "compiled = lambda: sum(task._compiled is not None for task in gc.get_objects() if isinstance(task, Task));"
        "before = compiled(); formats.get('FP134').round(np.ones(5, np.float32), top=0); print(before, compiled())"
    )
    assert python("-c", script).stdout.split() == ["0", "1"]


def test_what_is_compiled_is_known_by_all_the_files_that_it_is_made_of(tmp_path):
    def function(w):
        pass

    folder = Path(kernel.__file__).parent
    task = Task(function, Words(elements=NUMBER).type_for(), "function")
    assert task._function.__qualname__ == f"function_{_stamp(folder)}"
    stamps = {_stamp(shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__")))}
    for file in (tmp_path / "copy").glob("*.py"):
        file.write_text(file.read_text() + "#")
        stamps.add(_stamp(tmp_path / "copy"))
    assert len(stamps) == 1 + len(list(folder.glob("*.py")))


def test_the_kernel_is_lowest():
    """It takes nothing of `formats` but the rule of rounding and profiles, which take nothing themselves."""
    folder, below = Path("formats", "kernel"), {Path("formats", "rounding.py"), Path("formats", "profile.py")}
    for path in modules():
        if path.parent == folder:
            used = {used for used in used_by(path) if used.parts[0] == "formats" and used.parent != folder}
            assert used <= below, path
    assert not any(used_by(path) for path in below)


def test_every_fast_version_names_the_rule():
    for name in kernel.__all__:
        if name.startswith(("round_", "encode_", "look_up")):
            assert "`formats.rounding." in getattr(kernel, name).__doc__, name


@pytest.mark.parametrize("policy", ["floor", "ceil", "even", "rceil"])
@pytest.mark.parametrize("name", ["FP134", "INT8", "T8.5x3@2", "profile:8:5,6,5,4,5,3,3,2,1"])
def test_each_block_of_32_is_a_tensor_of_its_own(name, policy):
    whole = formats.get(name).with_scale(Scale(policy=policy))
    blocks = formats.get(name).with_scale(Scale(per="block", block=32, policy=policy))
    scales = np.float32(2.0) ** RNG.integers(-130, 120, (6, 5, 1)).astype(np.float32)
    x = (RNG.standard_normal((6, 5, 20)).astype(np.float32) * scales).reshape(6, 100)
    x[0], x[1, 7], x[1, 40], x[2, 64:96] = any_bits(100), np.nan, -np.inf, 0.0
    for keep in (False, True):
        found = blocks.round(x, keep_infinities=keep)
        for start in range(0, 100, 32):
            for row in range(6):
                part = x[row, start : start + 32]
                assert same(found[row, start : start + 32], whole.round(part, keep_infinities=keep))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 31, kernel.FOUND_AT_ONCE, kernel.FOUND_AT_ONCE + 1])
def test_scale_found_while_rounding(size, dtype):
    for policy in ("floor", "even", "rceil"):
        format = formats.get("FP134").with_scale(Scale(policy=policy, headroom=1))
        for factor in (1.0, 1e-39, 5e37):
            x = (RNG.standard_normal(size) * factor).astype(dtype)
            x[size // 2 :: 7] = np.inf
            expected = format.round(x, top=format.find_top(x))
            assert same(format.round(x), expected)
            assert format.round(x, out=x) is x
            assert same(x, expected)


IRREGULAR = [
    "profile:8:3,3,3",
    "profile:10:5,2,4,3,6",
    "profile:8:1,2,3",
    "profile:8:2,3,3,3,2,2",
    "profile:8:5,6,5,4,5,3,3,2,1",
    "INT16",
    "LOG4",
]


@pytest.mark.parametrize(
    "name", [*(format.name for format in formats.catalogue()[::9] if format.granularity == "tensor"), *IRREGULAR]
)
def test_codes_number_the_magnitudes(name):
    format = formats.get(name)
    x = any_bits(5000)
    x = x[~np.isnan(x)]
    for top in (0, *format.top_range):
        magnitudes = format.magnitudes(top)
        middles = ((magnitudes[1:] + magnitudes[:-1]) / 2).astype(np.float32)
        near = np.concatenate(
            [
                magnitudes.astype(np.float32),
                middles,
                np.nextafter(middles, np.float32(0)),
                np.nextafter(middles, np.float32(1)),
            ]
        )
        given = np.concatenate([x, near, -near])
        rounded = format.round(given, top=top)
        index = np.searchsorted(magnitudes, np.abs(rounded))
        assert (magnitudes[index] == np.abs(rounded)).all()
        half = 1 << (format.bits - 1)
        below = (2 * half - index) if format.two_complement else half + index
        expected = np.where(np.signbit(rounded) & (index > 0), below, index)
        assert (format.encode(given, top=top).codes == expected).all()
        for place in (0, 1000, given.size - 1):
            lost = given.copy()
            lost[place] = np.nan
            with pytest.raises(ValueError, match="x holds NaN"):
                format.encode(lost, top=top)
