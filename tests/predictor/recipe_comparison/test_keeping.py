"""Products kept in bfloat16: which, and that what is measured of them is measured so."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import formats
from formats.hardware.totals import gates_of
from predictor import measure_recipes
from predictor.gradient.angle import degrees, layer_sums
from predictor.gradient.gradients import Gradients
from predictor.recipe_comparison.outlook import estimate_recipes
from predictor.recipes.placed import Placed
from predictor.recipes.products import RecipeAtSites
from workloads import Workload

torch.set_num_threads(1)

SIZES = {"0:linear": 2 * 20 * 24, "2.0:linear": 3 * 24 * 16, "2.2:linear": 3 * 16 * 12, "4:linear": 3 * 12 * 5}
"""Multiply-accumulates a token, the head last; the first layer has no dgrad."""


def workload():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 12))
    model = nn.Sequential(nn.Linear(20, 24), nn.GELU(), inner, nn.Tanh(), nn.Linear(12, 5))
    data = [(torch.randn(40, 20), torch.randint(0, 5, (40,))) for _ in range(2)]
    return Workload("net", model, data, lambda m, b: F.cross_entropy(m(b[0]), b[1]))


def _computed(by_name, site):
    return by_name[site.name](site)


def mixed_angle(of, recipe, kept):
    """The angle with kept products in bfloat16, from one rule a site."""
    angles = []
    for batch in of.minibatches():
        with Gradients(of, batch) as gradients:
            head = frozenset({"4:linear"})
            by_recipe, in_bf16 = (RecipeAtSites(Placed(formats.recipe(name)), head) for name in (recipe, "bf16"))
            computed = {site.name: in_bf16 if site.name in kept else by_recipe for site in gradients.products}
            flow = gradients.flow
            flow.site, flow.pointed = partial(_computed, computed), False
            found = gradients.backward(gradients.forward(None), None, keep=False)
            flow.site, flow.pointed = None, True
            angles.append(degrees(layer_sums(found, gradients.full).sum(0)))
    return np.mean(angles)


@pytest.fixture(scope="module")
def by_layer():
    return measure_recipes(workload(), ["mxfp4", "E4M3/real"], by=["layer"])


def test_layers_that_are_named_are_kept():
    of = workload()
    table = measure_recipes(of, ["mxfp4", "FP134"], keep=["2"])
    assert table["part"].tolist().count("kept") == 2  # bfloat16 keeps nothing
    row = table[(table["recipe"] == "mxfp4") & (table["part"] == "kept")].iloc[0]
    assert row["layer"] == "2.0 2.2"
    assert row["angle"] == pytest.approx(mixed_angle(of, "mxfp4", ["2.0:linear", "2.2:linear"]), rel=1e-12)
    whole, kept = sum(SIZES.values()), SIZES["2.0:linear"] + SIZES["2.2:linear"]
    assert row["kept"] == pytest.approx(kept / whole)
    assert row["share"] == pytest.approx(SIZES["0:linear"] / whole)
    lanes = kept * gates_of("bfloat16") + SIZES["0:linear"] * gates_of("MXFP4")
    assert row["gates"] == pytest.approx(lanes / (kept + SIZES["0:linear"]))
    assert table[table["part"] == "everywhere"]["kept"].tolist() == [0, 0, 0]
    one = measure_recipes(of, ["mxfp4"], keep=["0:linear"])
    assert one[one["part"] == "kept"]["layer"].tolist() == ["0"]


@pytest.mark.parametrize("share", [0.25, 0.45, 0.7])
def test_a_share_is_kept_where_products_alone_turn_most_for_their_cost(share, by_layer):
    of, whole = workload(), sum(SIZES.values())
    table = measure_recipes(of, ["mxfp4", "E4M3/real"], keep=share)
    assert set(table["part"]) == {"everywhere", "kept"}
    for recipe in ("mxfp4", "E4M3/real"):
        own = by_layer[by_layer["recipe"] == recipe]
        alone = own[own["part"] == "alone"].set_index("layer")["angle"]
        everywhere = own[own["part"] == "everywhere"]["angle"].iloc[0]
        gained = {name: (1 - math.cos(math.radians(angle))) / SIZES[name] for name, angle in alone.items()}
        left, kept = share * whole, []
        for name in sorted(gained, key=gained.get, reverse=True):
            if gained[name] > 0 and SIZES[name] <= left:
                left -= SIZES[name]
                kept.append(name)
        row = table[(table["recipe"] == recipe) & (table["part"] == "kept")].iloc[0]
        assert sorted(f"{name}:linear" for name in row["layer"].split()) == sorted(kept)
        assert 0 < row["kept"] <= share
        assert row["angle"] == pytest.approx(mixed_angle(of, recipe, kept), rel=1e-12)
        assert row["angle"] < everywhere
    assert table.attrs["keep"] == [share]


def test_what_was_measured_by_layer_serves(by_layer):
    table = measure_recipes(workload(), ["mxfp4", "E4M3/real"], by=["layer"], keep=0.45)
    without = table[table["part"] != "kept"].reset_index(drop=True)
    assert without["angle"].tolist() == by_layer["angle"].tolist()
    assert table["part"].tolist().count("kept") == 2
    after = table["part"].shift(1)[table["part"] == "kept"]
    assert set(after) == {"everywhere"}


def test_a_beginning_and_a_pattern_name_several():
    from predictor.recipe_comparison.keeping import products_of

    changed = ["layers.1.up:linear", "layers.1.down:linear", "layers.10.up:linear", "layers.10.up:linear#1"]
    assert products_of(["layers.1"], changed) == changed[:2]
    assert products_of(["*.up"], changed) == [changed[0], *changed[2:]]
    with pytest.raises(ValueError, match=r"no product of layer 'down'.*patterns name several"):
        products_of(["down"], changed)


def test_of_a_layer_with_several_products_those_are_named_that_are_kept():
    from predictor.recipe_comparison.keeping import _written

    changed = ["attention:linear", "attention:linear#1", "mlp:linear", "2:linear"]
    assert _written(["attention:linear#1", "mlp:linear"], changed) == ["attention:linear#1", "mlp"]
    assert _written(["attention:linear", "attention:linear#1", "2:linear"], changed) == ["attention", "2"]


def test_several_shares():
    table = measure_recipes(workload(), ["mxfp4"], 1, keep=[0.0, 0.45, 1.0])
    assert table["layer"].tolist()[:3] == ["all", "all", ""]
    assert table["angle"].iloc[1] == table["angle"].iloc[2] > table["angle"].iloc[3] > table["angle"].iloc[4]
    assert table["kept"].is_monotonic_increasing
    # All of it: the head stays.
    assert table["layer"].iloc[4] == "0 2.0 2.2"
    assert table["angle"].iloc[4] == pytest.approx(table["angle"].iloc[0])


def test_gates_count_the_scales_of_both_operands():
    mixed = formats.recipe("mixed", x="NVFP4", w="E4M3/real/row", dy="INT8/real")
    table = measure_recipes(workload(), [mixed, formats.recipe("part", x="MXFP4")], 1).set_index("recipe")
    x, w, dy = "NVFP4", "E4M3/real/row", "INT8/real"
    of = {"fprop": gates_of(f"{x}+{w}"), "dgrad": gates_of(f"{dy}+{w}"), "wgrad": gates_of(f"{dy}+{x}")}
    first, later = SIZES["0:linear"] / 2, (SIZES["2.0:linear"] + SIZES["2.2:linear"]) / 3
    total = first * (of["fprop"] + of["wgrad"]) + later * sum(of.values())
    assert table.loc["mixed", "gates"] == pytest.approx(total / (2 * first + 3 * later))
    assert table.loc["bf16", "gates"] == pytest.approx(gates_of("bfloat16"))
    assert math.isnan(table.loc["part", "gates"])


def test_an_estimate_counts_what_is_measured_to_choose():
    assert estimate_recipes(workload(), ["mxfp4"], keep=0.3).gradients == 2 * (2 + 3 + 1)
    assert estimate_recipes(workload(), ["mxfp4"], keep=[0.3, 0.1], by=["layer"]).gradients == 2 * (1 + 7 + 2)
    assert estimate_recipes(workload(), ["mxfp4"], keep=["0"]).gradients == 2 * (2 + 1)


@pytest.mark.parametrize(
    ("keep", "match"),
    [
        (1.5, "the share to keep 1.5: "),
        (["1"], "no product of layer '1' is changed by a recipe, to keep it; there are 0:linear, 2.0:linear"),
        (["0", "4"], "no product of layer '4' is changed"),
        ("2", "keep '2': a share from 0 to 1, several, or a list of names"),
        ([0.1, "2"], "keep .*: a share from 0 to 1"),
    ],
)
def test_what_cannot_be_kept_is_refused(keep, match):
    with pytest.raises((ValueError, TypeError), match=match):
        measure_recipes(workload(), ["mxfp4"], keep=keep)
