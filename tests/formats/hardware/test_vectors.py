"""Test vectors, decode tables and C headers: complete, and equal to the emulator to the bit."""

import csv
import itertools
import re
import subprocess

import numpy as np
import pytest

import formats
from formats.hardware.header import UNUSED
from formats.hardware.vectors import hard_inputs, safe_name, write_vectors
from tests.formats.reference import Reference
from tests.processes import installed

NAMES = [
    "INT8",
    "INT6",
    "FP134",
    "FP143",
    "FP152",
    "T8.5x3@2",
    "T6.3x2@4",
    "profile:8:5,5,6,5,5,4,4,3,3,3,2,1",
    "profile:16:10x63,9,8,7,6,5,4,3,2,1",
    "profile:4:1x7",
    "BM43",
    "profile:6:3,1,4",  # spare codes, and neighbours in precision of all kinds
    "profile:2:1",
]
RANDOM_PATTERNS = 200_000

PROGRAM = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
{declarations}
static const struct {{ unsigned (*encode)(float); float (*decode)(unsigned); }} cases[] = {{ {cases} }};

/* Arguments, again and again: a case, a file of floats, one for the code of each (uint16), one for the values of all
   codes, how many. */
int main(int count, char **argument)
{{
    int at;
    for (at = 1; at + 4 < count; at += 5) {{
        const int which = atoi(argument[at]), codes = atoi(argument[at + 4]);
        FILE *in = fopen(argument[at + 1], "rb"), *out = fopen(argument[at + 2], "wb");
        FILE *values = fopen(argument[at + 3], "wb");
        float x;
        int code;
        if (!in || !out || !values)
            return 1;
        while (fread(&x, sizeof x, 1, in) == 1) {{
            const uint16_t result = (uint16_t)cases[which].encode(x);
            fwrite(&result, sizeof result, 1, out);
        }}
        for (code = 0; code < codes; code++) {{
            x = cases[which].decode((unsigned)code);
            fwrite(&x, sizeof x, 1, values);
        }}
        if (fclose(in) || fclose(out) || fclose(values))
            return 1;
    }}
    return 0;
}}
"""
CASE = """
#include "{header}"
unsigned encode_{number}(float x);
float decode_{number}(unsigned code);
unsigned encode_{number}(float x) {{ return {name}_encode(x); }}
float decode_{number}(unsigned code) {{ return {name}_decode(({type})code); }}
"""


def bits32(values):
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def flat(format):
    """The format with one scale for all elements."""
    return formats.from_profile(format.profile, format.bits)


def tops(format):
    """An ordinary scale, both ends of the range, and where the smallest value is the smallest normal float32 and half
    of that."""
    low, high = format.top_range
    if format.bits > 8:
        return [low, 32]  # of 65536 codes these two take long enough
    return sorted({0, low, format.binades - 127, format.binades - 128, high})


CASES = [(formats.get(name), top) for name in NAMES for top in tops(formats.get(name))]
BIG = [case for case in CASES if case[0].bits > 8]


def used_codes(format):
    """Which codes stand for values, by what the definition says of codes."""
    half, count = 1 << (format.bits - 1), len(format.magnitudes())
    codes = np.arange(2 * half)
    return codes if format.two_complement else codes[(codes < count) | ((codes > half) & (codes < half + count))]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Paths of each case's files."""
    home = tmp_path_factory.mktemp("vectors")
    return [write_vectors(format, home / str(number), top) for number, (format, top) in enumerate(CASES)]


def read_vectors(path):
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["input_bits", "output_code", "output_bits"]
    assert {(len(given), len(value)) for given, _, value in rows} == {(8, 8)}
    return np.array([[int(cell, 16) for cell in row] for row in rows], np.int64).T


@pytest.mark.slow
def test_vectors_agree_with_the_emulator_and_have_no_duplicates(written):
    for (format, top), (path, _, _) in zip(CASES, written, strict=True):
        given, codes, values = read_vectors(path)
        x = given.astype(np.uint32).view(np.float32)
        assert len(np.unique(given)) == len(given)
        assert not np.isnan(x).any()
        assert (bits32(x) == bits32(hard_inputs(format, top))).all()
        expected = flat(format).encode(x, top=top).codes
        assert (codes == expected).all(), (format.name, top)
        assert (values == bits32(flat(format).decode(expected, top))).all(), (format.name, top)
        # Each code of a value is there with its value as input.
        own = given == values
        expected = used_codes(format)
        if format.two_complement:
            expected = expected[expected != 1 << (format.bits - 1)]
        assert sorted(codes[own]) == expected.tolist()


@pytest.mark.parametrize(
    ("format", "top"), [case for case in CASES if case not in BIG], ids=lambda x: str(getattr(x, "name", x))
)
def test_vectors_agree_with_exact_arithmetic(format, top):
    reference = Reference(format.profile, top)
    x = hard_inputs(format, top)
    decoded = flat(format).decode(flat(format).encode(x, top=top).codes, top)
    assert decoded.tolist() == [reference.round(float(value)) for value in x]


def test_vectors_hold_every_value_threshold_and_trap():
    for format, top in CASES:
        x = hard_inputs(format, top)
        held = set(bits32(x).tolist())
        magnitudes = format.magnitudes(top)
        values = magnitudes.astype(np.float32)
        assert set(bits32([*values, *-values]).tolist()) <= held
        finite = np.sort(x[np.isfinite(x)].astype(np.float64))
        for low, high in itertools.pairwise(magnitudes):
            tie = (low + high) / 2
            # The nearest inputs on both sides are a float32's distance away, and the tie itself is there where it is a
            # float32.
            place = np.searchsorted(finite, tie)
            exact = float(np.float32(tie)) == tie
            assert (finite[place] == tie) == exact
            below, above = np.float32(finite[place - 1]), np.float32(finite[place + exact])
            if exact:
                assert np.nextafter(below, np.float32(np.inf)) == tie == np.nextafter(above, np.float32(0))
            else:
                assert np.nextafter(below, np.float32(np.inf)) == above
        traps = [0, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000]
        end = np.float32(min(float(2.0 ** (top + 1)), float(np.finfo(np.float32).max)))
        traps += bits32(
            [end, np.nextafter(end, np.float32(0)), np.nextafter(np.float32(format.max(top)), end)]
        ).tolist()
        assert {*traps, *(trap | 0x80000000 for trap in traps)} <= held, (format.name, top)


def test_vectors_find_each_wrong_rounding():
    """Encoders with a well-known mistake each fail on some of the vectors."""
    format, top = flat(formats.get("FP143")), 8
    x = hard_inputs(format, top)
    right = format.round(x, top=top)
    finite = np.isfinite(x)
    magnitudes = format.magnitudes(top)
    ties = (magnitudes[1:] + magnitudes[:-1]) / 2
    away = magnitudes[np.searchsorted(ties, np.abs(x[finite]).astype(np.float64), side="right")]
    toward = magnitudes[np.searchsorted(ties, np.abs(x[finite]).astype(np.float64), side="left")]
    assert (away != np.abs(right[finite])).any()
    assert (toward != np.abs(right[finite])).any()
    bfloat16 = ((bits32(x) + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    assert (format.round(bfloat16, top=top) != right).any()  # rounded twice
    flushed = np.where(np.abs(x) < np.float32(2.0 ** (top - 14)), np.float32(0), right)
    assert (flushed != right).any()


@pytest.mark.slow
def test_decode_tables(written):
    for (format, top), (_, path, _) in zip(CASES, written, strict=True):
        text = path.read_text()
        table = re.sub(r"//.*", "", text).split()
        assert len(table) == 1 << format.bits
        assert all(re.fullmatch("[0-9a-f]{8}", entry) for entry in table)
        patterns = np.array([int(entry, 16) for entry in table])
        used = used_codes(format)
        with np.errstate(over="ignore"):  # -2^(n-1) of fixed point at the largest scale
            assert (patterns[used] == bits32(flat(format).decode(used, top))).all(), (format.name, top)
        assert (np.delete(patterns, used) == UNUSED).all()
        assert text.count("// unused") == len(table) - len(used)


@pytest.fixture(scope="module")
def compiled(written, tmp_path_factory):
    """A program that holds the headers of all cases, and its sources."""
    gcc = installed("gcc")
    home = tmp_path_factory.mktemp("program")
    sources = []
    for number, ((format, _), (_, _, header)) in enumerate(zip(CASES, written, strict=True)):
        sources.append(home / f"case{number}.c")
        kind = "uint8_t" if format.bits <= 8 else "uint16_t"
        sources[-1].write_text(CASE.format(header=header, number=number, name=safe_name(format), type=kind))
    numbers = range(len(CASES))
    declarations = "".join(f"unsigned encode_{i}(float); float decode_{i}(unsigned);\n" for i in numbers)
    main = PROGRAM.format(declarations=declarations, cases=", ".join(f"{{encode_{i}, decode_{i}}}" for i in numbers))
    sources.append(home / "main.c")
    sources[-1].write_text(main)
    # Side by side in one file, none used: no name clashes and no warning.
    one_each = {header.name: header for _, _, header in written}
    sources.append(home / "unused.c")
    sources[-1].write_text("".join(f'#include "{header}"\n' for header in one_each.values()))
    program = home / "program"
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"]
    # Undefined behaviour ends the program, without a library.
    checked = ["-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    subprocess.run([gcc, "-std=c99", *strict, *checked, *map(str, sources), "-o", str(program)], check=True)
    return program, sources, strict


@pytest.mark.slow
def test_c_agrees_with_the_emulator(compiled, tmp_path):
    program, _, _ = compiled
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 1 << 32, RANDOM_PATTERNS, dtype=np.uint32).view(np.float32)
    nans = np.array([0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32).view(
        np.float32
    )
    inputs, arguments, counts = [], [], []
    for number, (format, top) in enumerate(CASES):
        with np.errstate(over="ignore"):
            near = np.ldexp(rng.standard_normal(10_000), top - rng.integers(-1, format.binades + 2, 10_000)).astype(
                np.float32
            )
        inputs.append(np.concatenate([hard_inputs(format, top), near, patterns, nans]))
        paths = [tmp_path / f"{number}.{kind}" for kind in ("inputs", "codes", "values")]
        inputs[-1].tofile(paths[0])
        counts.append(256 if format.bits <= 8 else 1 << format.bits)
        arguments += [str(number), *map(str, paths), str(counts[-1])]
    subprocess.run([str(program), *arguments], check=True)
    for number, (format, top) in enumerate(CASES):
        x = inputs[number]
        codes = np.fromfile(tmp_path / f"{number}.codes", np.uint16)
        expected = flat(format).encode(np.where(np.isnan(x), np.float32(0), x), top=top).codes
        wrong = np.flatnonzero(codes != expected)
        assert len(codes) == len(x)
        assert not wrong.size, (
            f"{format.name} at T = {top}: {x[wrong[0]]!r} gives {codes[wrong[0]]}, not {expected[wrong[0]]}"
        )
        values = np.fromfile(tmp_path / f"{number}.values", np.float32)
        used = used_codes(format)
        with np.errstate(over="ignore"):
            assert (bits32(values[used]) == bits32(flat(format).decode(used, top))).all(), (format.name, top)
        assert len(values) == counts[number]
        assert (np.delete(bits32(values), used) == UNUSED).all()


@pytest.mark.slow
def test_headers_are_cpp_too(compiled):
    gxx = installed("g++")
    _, sources, strict = compiled
    subprocess.run([gxx, "-x", "c++", "-std=c++11", *strict, "-fsyntax-only", *map(str, sources)], check=True)


def test_names_default_top_and_replacing(tmp_path):
    paths = write_vectors(formats.get("T8.5x3@2"), tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["T8_5x3_2_vectors.csv", "T8_5x3_2_decode.hex", "T8_5x3_2.h"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)
    assert "at top exponent 0" in paths[2].read_text()
    first = [path.read_text() for path in paths]
    assert [path.read_text() for path in write_vectors(formats.get("T8.5x3@2"), paths[0].parent, 3)] != first
    assert [path.read_text() for path in write_vectors(formats.get("T8.5x3@2"), paths[0].parent, 0)] == first
    paths[0].unlink()
    with pytest.raises(FileExistsError, match=r"T8_5x3_2_decode\.hex exists; use --force"):
        write_vectors(formats.get("T8.5x3@2"), paths[0].parent, 3, force=False)
    assert not paths[0].exists()
    wide = formats.from_profile([1] * 200)  # values are float32 numbers only from T = 50 on
    assert "at top exponent 50" in write_vectors(wide, tmp_path)[2].read_text()
    odd = formats.from_profile([2, 1], 4, name="4*/ bits\n/../x")
    assert [path.name for path in write_vectors(odd, tmp_path)][2] == "format_4_bits_x.h"
    assert safe_name(formats.ProfileFormat((2, 1), 3)) == "INT3"
    assert safe_name(formats.get("FP134/block32")) == "FP134_block32"


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="top 128 is outside"):
        write_vectors(formats.get("FP134"), tmp_path, 128)
    with pytest.raises(ValueError, match="top -128 is outside"):
        hard_inputs(formats.get("BM43"), -128)
    for name, message in (("NF4", "no precision profile"), ("MXFP4", "has codes for its scales too")):
        with pytest.raises(ValueError, match=message):
            write_vectors(formats.get(name), tmp_path)
    with pytest.raises(TypeError, match="whole number"):
        hard_inputs(formats.get("INT8"), 0.5)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "INT6.h").mkdir()
    with pytest.raises(OSError):
        write_vectors(formats.get("INT6"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"INT6.h", "INT6_vectors.csv", "INT6_decode.hex"}
