"""Formats from files, packing, torch modules, and the path of other devices."""

from pathlib import Path

import pytest

import formats
from formats.pairs import candidate
from search.candidates import choose

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_examples_define_formats():
    from_python = formats.load_formats(EXAMPLES / "custom_formats.py")
    assert [f.name for f in from_python] == [
        "best for errors?",
        "FP125",
        "FP133/block32",
        "quarters",
        "FP134 of x/2, doubled",
    ]
    from_toml = formats.load_formats(EXAMPLES / "custom_formats.toml")
    assert [f.name for f in from_toml] == ["best for errors?", "FP133 in blocks", "quarters"]
    assert from_toml[0] == from_python[0]
    assert from_toml[1] == formats.get("FP133/block32/rceil")
    assert from_toml[2] == from_python[3]
    chosen = choose([str(EXAMPLES / "custom_formats.py"), "FP134"])
    assert [f.name for f in chosen][-2:] == ["FP134 of x/2, doubled", "FP134"]


def test_a_format_of_a_file_by_name(tmp_path):
    one, two = tmp_path / "one.toml", tmp_path / "two.py"
    one.write_text("[Mine]\nprofile = '5x7,4,3,2,1'\n")
    two.write_text("import formats\na = formats.get('INT8')\nb = formats.get('FP134')\n")
    assert formats.get(str(one)).name == formats.get(f"{one}:Mine").name == "Mine"
    assert formats.get(f" {two}:FP134") == formats.get("FP134")
    assert candidate(f"{two}:INT8+{one}").name == "INT8+Mine"
    one.write_text("[Mine]\nprofile = '2,1'\n")  # read again
    assert formats.get(str(one)).profile == (2, 1)
    with pytest.raises(ValueError, match=r"two\.py defines INT8, FP134; one is needed here, as .*two\.py:INT8"):
        formats.get(str(two))
    with pytest.raises(ValueError, match=r"two\.py has no 'FP143'; it defines INT8, FP134$"):
        formats.get(f"{two}:FP143")
    with pytest.raises(ValueError, match=r"one\.toml has no 'mine/headroom1'; it defines Mine$"):
        formats.get(f"{one}:mine/headroom1")
    with pytest.raises(
        ValueError, match=r"suffixes do not go .* \(scale = \{ headroom = 1 \}\) .* out /rceil/headroom1"
    ):
        formats.get(f"{one}:Mine/rceil/headroom1")
    with pytest.raises(FileNotFoundError, match=r"there is no file none\.py"):
        formats.get("none.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "cannot be read as TOML: "),
        ("a = 3", "a table is needed"),
        ("[a]\nprofle = [3]", "unknown key 'profle'; allowed are bias, bits, codebook"),
        ("[a]\nbits = 8", "exactly one of"),
        ("[a]\nprofile = [0]", "1 to 24 are allowed"),
        ("[a]\nexponent_bits = 3", "fraction_bits is missing"),
        ("[a]\nprofile = [3]\nscale = {per = 'row'}", "allowed are tensor, channel, block"),
        ("[a]\nprofile = [3]\nscale = {rows = 3}", "format 'a'"),
        ("[my.v2]\nprofile = [3]", r'format \'my\': a name with a dot stands in quotes, as \["my\.v2"\]'),
        (
            "[a]\ncodebook = [0, 1]\nscale = {policy = 'rceil'}",
            "format 'a': scale policy rceil: codebooks find their scale by the floor rule alone; a headroom of 1",
        ),
        ("", "defines no format"),
        ("[" * 30_000, "cannot be read as TOML: "),
        ("a = " + "9" * 5000, "cannot be read as TOML: "),
        ("['a\\u001b[31m']\nprofile = [3]".replace("'", '"'), "characters that can be printed"),
        ('["a\\nb"]\nprofile = [3]', "characters that can be printed"),
        ("[a]\nprofile = [3]\nbias = 1", "bias says nothing of a profile; bits, scale may"),
        ("[a]\nprofile = [3]\nsigned = true", "signed says nothing of a profile"),
        ("[a]\nprofile = '5x7,4/channel'", "its scale is said by the key scale"),
        ("[a]\nexponent_bits = 3\nfraction_bits = 4\nbits = 6", "bits says nothing of a exponent_bits"),
        ("[a]\nexponent_bits = 3\nfraction_bits = true", "a whole number is needed"),
        ("[a]\nexponent_bits = '3'\nfraction_bits = 4", "a whole number is needed"),
        ("[a]\nexponent_bits = 1\nfraction_bits = 2\nbias = 1\nscale = {}", "bias and scale do not go together"),
        ("[a]\nexponent_bits = 999999999\nfraction_bits = 2", "unknown format"),
        ("[a]\ncodebook = '123'", "a list of numbers is needed"),
        ("[a]\ncodebook = [true, false]", "a list of numbers is needed"),
        (f"[a]\ncodebook = [1{'0' * 400}]", "format 'a': "),
        ("[a]\ncodebook = [1]\nsigned = 'no'", "signed 'no': true or false is needed"),
        ("[a]\nprofile = [3]\nscale = 3", "a table is needed, such as"),
        ("[a]\nprofile = [3]\nscale = {exponent_field = [0, 1]}", "scale: unknown key 'exponent_field'"),
        ("[a]\nprofile = [3]\nscale = {per = 'block', block = [3]}", "a positive number or a pair"),
        ("[a]\nprofile = [3]\nscale = {per = 'channel', axis = 0.5}", "axis 0.5: a whole number is needed"),
    ],
)
def test_damaged_descriptions(tmp_path, text, message):
    path = tmp_path / "f.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        formats.load_formats(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        formats.load_formats(tmp_path / "none.toml")


def test_a_wrong_table_beside_the_one_that_is_wanted(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text("[wrong]\nprofile = '99x7'\n[right]\nprofile = '4,3,2,1'\n")
    assert formats.get(f"{path}:right").profile == (4, 3, 2, 1)
    with pytest.raises(ValueError, match="format 'wrong'"):
        formats.get(f"{path}:wrong")
    with pytest.raises(ValueError, match="format 'wrong'"):
        formats.load_formats(path)


def test_a_codebook_with_a_scale_in_toml(tmp_path):
    (tmp_path / "own.toml").write_text(
        "[own]\ncodebook = [3, 0, 1]\nsigned = true\nscale = {per = 'block', block = 16}\n"
    )
    (own,) = formats.load_formats(tmp_path / "own.toml")
    assert own == formats.from_codebook([0, 1, 3], signed=True).with_scale(formats.Scale(per="block", block=16))
    assert own.name == "own"


def test_a_constant_scale_keeps_the_name_and_tiles_are_pairs(tmp_path):
    (tmp_path / "own.toml").write_text(
        "[E2M1]\nexponent_bits = 2\nfraction_bits = 1\nbias = 1\n"
        "[tiles]\nprofile = '3,2,1'\nscale = {per = 'block', block = [4, 8]}\n"
    )
    fixed, tiles = formats.load_formats(tmp_path / "own.toml")
    assert (fixed.name, fixed) == ("E2M1", formats.minifloat(2, 1, bias=1))
    assert tiles.scale.block == (4, 8)
