"""Recipes by name, from files and from fields."""

import pytest

import formats
from formats import Rounding
from formats.recipes.presets import PRESETS
from formats.recipes.value import OPERANDS, Operand, Product, Quantization


def written(recipe):
    """Formats, roundings and transform by product."""
    return {
        product.value: [each.name + ("" if each.rounding is Rounding.NEAREST else "~") for each in recipe.of(product)]
        + [recipe.of(product).hadamard]
        for product in Product
    }


def same(x, w, dy):
    return {"fprop": [x, w, 0], "dgrad": [dy, w, 0], "wgrad": [dy, x, 0]}


E4M3, NVFP4 = "E4M3/real", "NVFP4"
EXPECTED = {
    "bf16": same("bfloat16", "bfloat16", "bfloat16"),
    "fp8-tensor": same(E4M3, E4M3, "E5M2/real"),
    "fp8-tensor-e4m3": same(E4M3, E4M3, E4M3),
    "fp8-delayed": same(E4M3, E4M3, "E5M2/real"),
    "fp8-row": same(*["E4M3/real/row"] * 3),
    "fp8-row-hp": same(*["E4M3/real/row"] * 3) | {"wgrad": ["bfloat16", "bfloat16", 0]},
    "fp8-block": same("E4M3/real/block128", "E4M3/real/tile128x128", "E4M3/real/block128"),
    "fp8-block-pow2": same("E4M3/block128/rceil", "E4M3/tile128x128/rceil", "E4M3/block128/rceil"),
    "mxfp8": same(*["MXFP8-E4M3"] * 3),
    "mxfp8-e5m2": same("MXFP8-E4M3", "MXFP8-E4M3", "MXFP8-E5M2"),
    "mxfp6-e2m3": same(*["MXFP6-E2M3"] * 3),
    "mxfp6-e3m2": same(*["MXFP6-E3M2"] * 3),
    "mxfp4": same(*["MXFP4"] * 3),
    "nvfp4-1d": same(NVFP4, NVFP4, NVFP4),
    "nvfp4-2d": same(NVFP4, "NVFP4/tile16x16", NVFP4),
    "nvfp4-2d-sr": {
        "fprop": [NVFP4, "NVFP4/tile16x16", 0],
        "dgrad": ["NVFP4~", "NVFP4/tile16x16", 0],
        "wgrad": ["NVFP4~", NVFP4, 0],
    },
    "nvfp4": {
        "fprop": [NVFP4, "NVFP4/tile16x16", 0],
        "dgrad": ["NVFP4~", "NVFP4/tile16x16", 0],
        "wgrad": ["NVFP4~", NVFP4, 16],
    },
    "lee-fp134": same(*["FP134/headroom1"] * 3),
}


def test_presets_are_those_of_the_definition():
    assert set(EXPECTED) == set(PRESETS)
    for name, expected in EXPECTED.items():
        recipe = formats.recipe(name.upper())
        assert written(recipe) == expected, name
        assert recipe.name == name
        assert recipe.history == (0 if name == "fp8-delayed" else None)
        assert recipe.elsewhere is None
        assert recipe.random == (name in ("nvfp4", "nvfp4-2d-sr"))
    assert len({formats.recipe(name).digest for name in PRESETS}) == len(PRESETS)
    assert written(formats.recipe("mxfp8/rceil")) == same(*["MXFP8-E4M3/rceil"] * 3)
    assert formats.recipe("mxfp4/even").name == "mxfp4/even"


def test_a_format_or_pair_stands_for_all_operands():
    assert written(formats.recipe("fp134")) == same("FP134", "FP134", "FP134")
    assert written(formats.recipe("E4M3/real+E5M2/real")) == written(formats.recipe("fp8-tensor"))
    assert formats.recipe("E4M3/real+E5M2/real") == formats.recipe("fp8-tensor")  # whatever they are called
    assert formats.recipe("MXFP4/rceil").digest == formats.recipe("mxfp4/rceil").digest


def test_files_and_fields_say_the_same(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "mxfp8"\ndy = "MXFP8-E5M2"\nelsewhere = "bfloat16"\nhistory = 3\n'
        '[fprop]\nw = "float32"\n[dgrad]\nrounding = { dy = "stochastic" }\n'
        '[wgrad]\nrounding = "stochastic"\nhadamard = 32\n'
    )
    read = formats.recipe(str(path))
    assert read.name == "mine"
    assert written(read) == {
        "fprop": ["MXFP8-E4M3", "float32", 0],
        "dgrad": ["MXFP8-E5M2~", "MXFP8-E4M3", 0],
        "wgrad": ["MXFP8-E5M2~", "MXFP8-E4M3~", 32],
    }
    assert (read.elsewhere, read.history) == (formats.get("bf16"), 3)
    made = formats.recipe(
        "other",
        base="mxfp8",
        dy=formats.get("MXFP8-E5M2"),
        elsewhere="bfloat16",
        history=3,
        fprop={"w": "float32"},
        dgrad={"rounding": {"dy": "stochastic"}},
        wgrad={"rounding": "stochastic", "hadamard": 32},
    )
    assert made == read
    assert made.name == "other"
    # What is not said is the base's.
    again = formats.recipe("again", base=made, history="all")
    assert written(again) == written(made)
    assert again.history == 0
    assert again != made
    (tmp_path / "named.toml").write_text('name = "ours"\nx = "E4M3/real"\n')
    assert formats.recipe(str(tmp_path / "named.toml")).name == "ours"


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    for fields, match in (
        ({"xx": "E4M3"}, "recipe mine: unknown field 'xx'; did you mean x"),
        ({"x": "E4M4/real"}, "recipe mine, fprop, x: unknown format 'E4M4/real'"),
        ({"fprop": {"dy": "E4M3"}}, "recipe mine, fprop: unknown field 'dy'.* allowed are x, w, rounding, hadamard"),
        ({"wgrad": {"hadamard": 12}}, "recipe mine, wgrad: hadamard 12: a power of two"),
        ({"wgrad": {"hadamard": "16"}}, "hadamard '16'"),
        ({"wgrad": {"rounding": "upwards"}}, "rounding 'upwards': allowed are"),
        ({"wgrad": {"rounding": "up"}}, "wgrad, dy: rounding 'up': allowed are nearest, stochastic"),
        ({"wgrad": {"rounding": {"w": "nearest"}}}, "unknown field 'w'"),
        ({"wgrad": "NVFP4"}, "wgrad is 'NVFP4'; a table"),
        ({"history": -1}, "history -1"),
        ({"history": 0}, 'a number from 1 on is needed, or "all"'),
        ({"base": "fp9"}, "unknown recipe 'fp9'"),
        ({"x": "E4M3/standard", "fprop": {"rounding": "stochastic"}}, "cannot round by stochastic"),
        ({"elsewhere": "bf17"}, "elsewhere: unknown format"),
    ):
        with pytest.raises(ValueError, match=match) as refused:
            formats.recipe("mine", **fields)
        assert "\n" not in str(refused.value)
    for content, match in {
        "x = ": "is no TOML file",
        "": "has no field of a recipe",
        "name = 3\nx = 'E4M3'": "name is 3",
        "y = 'E4M3'": r"bad\.toml: recipe bad: unknown field 'y'",
    }.items():
        (tmp_path / "bad.toml").write_text(content)
        with pytest.raises(ValueError, match=match) as refused:
            formats.recipe(str(tmp_path / "bad.toml"))
        assert "\n" not in str(refused.value)
    with pytest.raises(FileNotFoundError):
        formats.recipe(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        formats.recipe(str(tmp_path / "folder.toml"))
    for name, match in {
        "mxfp88": "did you mean mxfp8",
        "fp8-block/rceil": "a scale policy is for recipes of MX formats",
        "mxfp8/up": "unknown recipe",
    }.items():
        with pytest.raises(ValueError, match=match) as refused:
            formats.recipe(name)
        assert "\n" not in str(refused.value)
    with pytest.raises(TypeError, match="neither a recipe"):
        formats.recipe(3)


def test_values_compare_by_content():
    assert OPERANDS[Product.WGRAD] == (Operand.DY, Operand.X)
    mxfp4 = formats.get("MXFP4")
    assert Quantization(mxfp4) == Quantization(formats.get("mxfp4"))
    assert Quantization(mxfp4) != Quantization(mxfp4, Rounding.STOCHASTIC)
    assert hash(formats.recipe("nvfp4")) == hash(formats.recipe("NVFP4".lower()))
    assert formats.recipe(formats.recipe("nvfp4")) is not None
