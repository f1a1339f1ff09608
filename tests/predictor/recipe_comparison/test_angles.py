"""Recipes compared on common mini-batches: numbers are those of gradients made one by one."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import formats
from formats.recipes.value import Product, uniform
from predictor import measure_recipes
from predictor.gradient.angle import degrees, layer_sums, length_ratio, projection
from predictor.gradient.gradients import Gradients
from predictor.measuring.store import Store
from predictor.recipe_comparison.outlook import estimate_recipes
from predictor.recipe_comparison.table import COLUMNS
from predictor.recipes.gradients import with_recipe
from predictor.recipes.placed import Placed
from predictor.requirements.multiply_accumulates import product_costs, share_of
from workloads import Workload

torch.set_num_threads(1)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 24), nn.GELU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 5))


def workload(batches=3):
    torch.manual_seed(1)
    data = [(torch.randn(40, 20), torch.randint(0, 5, (40,))) for _ in range(batches)]
    return Workload("net", network(), data, lambda m, b: F.cross_entropy(m(b[0]), b[1]))


def one_by_one(of, placed):
    """Sums over all layers, (mini-batches, 3), and gradients, of a recipe on each mini-batch."""
    rows, found = [], []
    for batch in of.minibatches():
        with Gradients(of, batch) as gradients:
            q = with_recipe(gradients, placed)[0]
            rows.append(layer_sums(q.gradients, q.reference).sum(0))
            difference = [a - b for a, b in zip(q.gradients, q.reference, strict=True)]
            found.append((torch.cat([d.flatten() for d in difference]), torch.cat([g.flatten() for g in q.reference])))
    return np.array(rows), found


def test_a_table_of_recipes():
    of = workload()
    table = measure_recipes(of, ["mxfp4", "mxfp8", "E4M3/real"], by=["product", "layer"])
    assert list(table.columns) == list(COLUMNS)
    whole = table[table["rank"].notna()]
    assert set(whole["recipe"]) == {"bf16", "E4M3/real", "mxfp8", "mxfp4"}
    assert (1 - whole["projection"]).abs().is_monotonic_increasing
    assert (whole["rank"] == whole["rank_by_projection"]).all()
    by_angle = measure_recipes(of, ["mxfp4", "mxfp8", "E4M3/real"], order="angle")
    assert by_angle["angle_of_mean"].is_monotonic_increasing
    assert (by_angle["rank"] == by_angle["rank_by_angle"]).all()
    for column in ("rank_by_angle", "rank_by_projection"):
        ranks = by_angle.set_index("recipe")[column]
        assert ranks.to_dict() == whole.set_index("recipe")[column].to_dict()
    assert (whole["angle"] == whole["angle_of_mean"]).all()
    mxfp4 = formats.recipe("mxfp4")
    cases = {
        ("all", "all", "everywhere"): Placed(mxfp4),
        ("dgrad", "all", "everywhere"): Placed(mxfp4, products=frozenset({Product.DGRAD})),
        ("all", "2:linear", "alone"): Placed(mxfp4, only=frozenset({"2:linear"})),
        ("all", "2:linear", "without"): Placed(mxfp4, without=frozenset({"2:linear"})),
    }
    keyed = table[table["recipe"] == "mxfp4"].set_index(["product", "layer", "part"])
    for key, placed in cases.items():
        sums, _ = one_by_one(of, placed)
        row = keyed.loc[key]
        assert row["angle"] == pytest.approx(np.mean([degrees(each) for each in sums]), rel=1e-12)
        assert row["projection"] == pytest.approx(np.mean([projection(each) for each in sums]), rel=1e-12)
        assert row["length_ratio"] == pytest.approx(np.mean([length_ratio(each) for each in sums]), rel=1e-12)
        assert (row["n"], row["draws"], row["failures"]) == (3, 1, 0)
        assert row["low"] < row["angle"] < row["high"]
    # Of 20 x 24, 24 x 16 and 16 x 5 a token: the first layer has no dgrad, the head stays.
    macs = 3 * (24 * 16) + 2 * (20 * 24) + 3 * (16 * 5)
    assert keyed.loc[("all", "all", "everywhere"), "share"] == pytest.approx((3 * 384 + 2 * 480) / macs)
    assert keyed.loc[("dgrad", "all", "everywhere"), "share"] == pytest.approx(384 / macs)
    assert keyed.loc[("all", "2:linear", "alone"), "share"] == pytest.approx(3 * 384 / macs)
    assert table.attrs["recipes"]["mxfp4"] == mxfp4.digest
    assert table.attrs["complete"]
    headed = measure_recipes(of, ["bf16"], head=True)
    assert headed["share"].tolist() == [1.0]


def test_each_product_of_each_layer_alone():
    of = workload(2)
    table = measure_recipes(of, ["mxfp4"], by=["both"])
    own = table[(table["recipe"] == "mxfp4") & table["rank"].isna()].set_index(["layer", "product"])
    # The first layer has no dgrad.
    cells = [("0:linear", "fprop"), ("0:linear", "wgrad"), *(("2:linear", p) for p in ("fprop", "dgrad", "wgrad"))]
    assert list(own.index) == cells
    for layer, product in cells:
        placed = Placed(formats.recipe("mxfp4"), only=frozenset({layer}), products=frozenset({Product(product)}))
        sums, _ = one_by_one(of, placed)
        row = own.loc[(layer, product)]
        assert row["part"] == "alone"
        assert row["angle"] == pytest.approx(np.mean([degrees(each) for each in sums]), rel=1e-12)


def test_the_mean_over_draws():
    """Of many draws the noise averages out: the angle of their mean is the estimate from pairs of a few."""
    of, recipe = (
        workload(2),
        formats.recipe("mine", x="float32", w="float32", dy="MXFP4", dgrad={"rounding": "stochastic"}),
    )
    recipe = formats.recipe("mine", base=recipe, wgrad={"rounding": "stochastic"})
    table = measure_recipes(of, [recipe], draws=6).set_index("recipe")
    angles, estimates = [], []
    for batch in of.minibatches():
        with Gradients(of, batch) as gradients:
            drawn = [with_recipe(gradients, Placed(recipe, draw=draw))[0] for draw in range(6)]
            full = torch.cat([g.flatten() for g in gradients.full]).double()
            d = [torch.cat([q.flatten() for q in each.gradients]).double() - full for each in drawn]
            angles += [degrees(layer_sums(each.gradients, each.reference).sum(0)) for each in drawn]
            pairs = float(np.mean([a @ b for a, b in itertools.combinations(d, 2)]))
            along = float(np.mean([a @ full for a in d]))
            estimates.append(degrees(np.array([along, max(pairs, 0), full @ full])))
    row = table.loc["mine"]
    assert row["draws"] == 6
    assert row["angle"] == pytest.approx(np.mean(angles), rel=1e-9)
    # By sketches, which are exact on average.
    assert row["angle_of_mean"] == pytest.approx(np.mean(estimates), rel=0.15)
    assert row["angle_of_mean"] < 0.7 * row["angle"]
    assert table.loc["bf16", "draws"] == 1


def test_delayed_scales_are_those_of_the_minibatches_before():
    of, current, delayed = workload(), formats.recipe("fp8-tensor"), formats.recipe("fp8-delayed")
    one = formats.recipe("last", base="fp8-delayed", history=1)
    table = measure_recipes(of, [current, delayed, one]).set_index("recipe")
    tops = []
    for batch in of.minibatches():
        with Gradients(of, batch) as gradients:
            tops.append(with_recipe(gradients, Placed(delayed))[1].tops)
    assert set(tops[0]) == {
        f"{site} {p} {o}"
        for site in ("0:linear", "2:linear")
        for p, o in (("fprop", "x"), ("fprop", "w"), ("dgrad", "dy"), ("dgrad", "w"), ("wgrad", "dy"), ("wgrad", "x"))
    } - {
        # What the same values serve, or nobody needs, has no scale of its own.
        *(f"{site} {p} {o}" for site in ("0:linear", "2:linear") for p, o in (("wgrad", "dy"),)),
        "0:linear dgrad w",
    }
    for recipe, name, first in ((delayed, "fp8-delayed", 0), (one, "last", 1)):
        expected = []
        for number, batch in enumerate(of.minibatches()):
            before = tops[max(0, number - 1) if first else 0 : number]
            given = {key: max(each[key] for each in before) for key in tops[0]} if before else {}
            with Gradients(of, batch) as gradients:
                placed = Placed(recipe, tops=tuple(sorted(given.items())))
                q = with_recipe(gradients, placed)[0]
                expected.append(degrees(layer_sums(q.gradients, q.reference).sum(0)))
        assert table.loc[name, "angle"] == pytest.approx(np.mean(expected), rel=1e-12)
    assert table.loc["fp8-delayed", "angle"] != table.loc["fp8-tensor", "angle"]


def test_what_was_measured_is_found_again(tmp_path):
    of = workload(2)
    with Store.open(tmp_path / "store.sqlite") as store:
        first = measure_recipes(of, ["mxfp4", "nvfp4", "fp8-delayed"], draws=2, store=store)
        count = store.info().measurements
        assert count == 2 * (1 + 1 + 2 + 1)
        again = measure_recipes(of, ["fp8-delayed", "mxfp4", "nvfp4"], draws=2, store=store)
        assert store.info().measurements == count
        pd.testing.assert_frame_equal(first, again)
        measure_recipes(of, ["nvfp4"], draws=3, store=store)
        assert store.info().measurements == count + 2
        measure_recipes(of, ["mxfp4"], exact=["2"], store=store)
        assert store.info().measurements > count + 2


def test_an_interrupt_keeps_what_was_measured():
    def interrupted(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    table = measure_recipes(workload(), ["mxfp4", "mxfp8"], progress=interrupted)
    assert not table.attrs["complete"]
    assert set(table["n"]) == {1}
    with pytest.raises(KeyboardInterrupt):
        measure_recipes(workload(), ["mxfp4"], progress=lambda progress: (_ for _ in ()).throw(KeyboardInterrupt))


def test_ties_share_a_rank():
    # Two names of one thing, which cannot be told apart.
    table = measure_recipes(workload(), [formats.recipe("a", base="mxfp8"), formats.recipe("b", base="mxfp8"), "mxfp4"])
    ranks = table.set_index("recipe")["rank"]
    assert ranks["a"] == ranks["b"]
    assert ranks["mxfp4"] == 4
    assert ranks["bf16"] == 1


def test_what_is_refused():
    of = workload()
    for arguments, match in (
        ({"recipes": []}, "no recipe was given"),
        ({"recipes": ["mxfp9"]}, "unknown recipe 'mxfp9'"),
        ({"recipes": ["mxfp8"], "by": ["layers"]}, "by 'layers': allowed are product, layer, both"),
        ({"recipes": ["nvfp4"], "draws": 1}, "1 draw of recipes with random numbers: at least 2"),
        ({"recipes": ["mxfp8"], "minibatches": 9}, "9 mini-batches were asked for"),
        ({"recipes": [formats.recipe("mxfp8", base="mxfp4"), "mxfp8"]}, "two recipes are called 'mxfp8'"),
        ({"recipes": ["mxfp8"], "exact": ["nothing"]}, "there is no layer 'nothing'"),
    ):
        with pytest.raises(ValueError, match=match) as refused:
            measure_recipes(of, **arguments)
        assert "\n" not in str(refused.value)


def test_costs_of_products():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3, groups=2)
            self.up = nn.ConvTranspose1d(6, 5, 2)
            self.attention = nn.MultiheadAttention(5, 1, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            y = self.up(self.conv(x).flatten(2)).transpose(1, 2)
            return self.head(self.attention(y, y, y, need_weights=False)[0])

    model = Products()
    model.head.weight.requires_grad_(False)
    batch = torch.randn(2, 4, 5, 6)
    costs = product_costs(Workload("products", model, [batch], lambda m, b: m(b).sum()), batch)
    # 3 x 4 places, then 12 + 1 steps.
    expected = {
        "conv:conv2d": (2 * 6 * 12 * 2 * 9, {"fprop", "wgrad"}),
        "up:conv_transpose1d": (2 * 12 * 6 * 5 * 2, {"fprop", "dgrad", "wgrad"}),
        "attention:linear": (2 * 13 * 5 * 15, {"fprop", "dgrad", "wgrad"}),
        "attention:matmul": (2 * 13 * 13 * 5, {"fprop", "dgrad", "wgrad"}),
        "attention:matmul#1": (2 * 13 * 13 * 5, {"fprop", "dgrad", "wgrad"}),
        "attention:linear#1": (2 * 13 * 5 * 5, {"fprop", "dgrad", "wgrad"}),
        "head:linear": (2 * 13 * 5 * 3, {"fprop", "dgrad"}),
    }
    assert {cost.name: (cost.multiply_accumulates, cost.products) for cost in costs} == expected
    assert [cost.name for cost in costs if cost.last] == ["head:linear"]
    assert [cost.name for cost in costs if not cost.parameter] == ["attention:matmul", "attention:matmul#1"]
    whole = sum(macs * len(products) for macs, products in expected.values())
    bf16 = formats.recipe("bf16")
    changed = sum(macs * len(p) for name, (macs, p) in expected.items() if "matmul" not in name and "head" not in name)
    assert share_of(Placed(bf16), costs) == pytest.approx(changed / whole)
    part = changed - expected["attention:linear"][0] * 3 - expected["attention:linear#1"][0] * 3
    assert share_of(Placed(bf16), costs, ("attention",)) == pytest.approx(part / whole)
    assert share_of(Placed(formats.recipe("x", x="float32")), costs) == 0


def test_estimates_say_what_is_measured():
    found = estimate_recipes(workload(), ["mxfp8", "nvfp4"], by=["product"])
    assert (found.recipes, found.products, found.minibatches) == (3, 2, 3)
    assert found.gradients == 3 * (1 + 4 + 4 * 4)
    assert found.seconds > 0


def test_one_format_for_all_operands():
    from predictor import measure

    of = workload(2)
    table = measure(of, ["E4M3/real", "FP134+FP143"], ["OPERANDS"])
    for name, pair in (("E4M3/real", "E4M3/real"), ("FP134+FP143", "FP134+FP143")):
        from formats.pairs import candidate

        sums, _ = one_by_one(of, Placed(uniform(candidate(pair))))
        row = table[table["format"] == name].iloc[0]
        assert row["angle"] == pytest.approx(np.mean([degrees(each) for each in sums]), rel=1e-12)
