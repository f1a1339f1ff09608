"""Formats measured at operands: what each effect rounds, the same numbers as recipes, and a store that tells them from
data flow."""

import pytest
import torch

import formats
from predictor import measure, measure_recipes
from predictor.attention import SENTENCE, has_attention
from predictor.columns import ALL
from predictor.effects import Effect
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from tests.predictor.operands import angle_by_hand, workload

ROUNDED = {"E": {"dy"}, "A": {"x"}, "AE": {"x", "dy"}, "W": {"w"}, "WAE": {"x", "w", "dy"}}


@pytest.mark.parametrize("name", ["FP134", "MXFP4", "INT5+FP142"])
def test_every_effect_rounds_its_operands_along_their_contractions(name):
    of = workload(1)
    first, second = formats.pairs.formats_of(formats.pairs.candidate(name))
    table = measure(of, [name], list(ROUNDED), points="operands")
    assert list(table["effect"]) == list(ROUNDED)
    for effect, operands in ROUNDED.items():

        def quantize(operand, t, operands=operands):
            return t if operand not in operands else (second if operand == "dy" else first).round(t)

        # float32 sums, in another order.
        found = table["angle"][table["effect"] == effect].item()
        assert found == pytest.approx(angle_by_hand(of, of.batches[0], quantize), rel=1e-3), effect


def test_all_six_operands_are_the_recipe_bit_by_bit_and_the_default():
    of = workload()
    names = {"lee-fp134": "FP134/headroom1", "fp8-tensor": "E4M3/real+E5M2/real", "mxfp4": "MXFP4", "BM34": "BM34"}
    table = measure(of, list(names.values()), points="operands")
    recipes = measure_recipes(of, list(names), 2).set_index("recipe")
    assert set(table["effect"]) == {"WAE"}
    for recipe, (_, row) in zip(names, table.iterrows(), strict=True):
        other = recipes.loc[recipe]
        for column in ("angle", "low", "high", "projection", "length_ratio", "bias", "loss"):
            assert row[column] == other[column], (recipe, column)


def test_the_store_tells_points_apart_and_recipes_find_what_formats_measured(tmp_path):
    of, deadly = workload(), Refusing()
    with Store.open(tmp_path / "store.sqlite") as store:
        # By the scheme that operands have too, so that nothing but the points differs.
        flow = measure(of, ["FP134"], ["AE"], scheme="current", store=store)
        operands = measure(of, ["FP134"], ["AE", "WAE"], points="operands", store=store)
        assert flow["angle"].item() != operands["angle"].iloc[0]
        assert store.info().measurements == 2 * 3
        again = measure(of, ["FP134"], ["AE", "WAE"], points="operands", store=store, executor=deadly)
        assert again["angle"].tolist() == operands["angle"].tolist()
        found = measure_recipes(of, ["FP134", "bf16"], 2, store=store).set_index("recipe")
        assert store.info().measurements == 2 * 4  # bf16 alone
        assert found.loc["FP134", "angle"] == operands["angle"].iloc[1]


class Refusing:
    """Measures nothing."""

    threads = 1

    def run(self, work):
        raise AssertionError(work)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effects": ["E|A"]}, "effect at operands 'E|A': allowed are E, A, AE, W, WAE"),
        ({"effects": ["operands"]}, "effect at operands 'OPERANDS'"),
        ({"scheme": "paper"}, "scheme paper was given with points operands"),
        ({"scheme": "current,branches=yes"}, "scheme current,branches=yes was given"),
        ({"two_terms": False}, "one term was given with points operands"),
        ({"points": "wires"}, "points 'wires': allowed are dataflow, operands"),
    ],
)
def test_what_operands_do_not_have_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        measure(workload(), ["FP134"], **({"points": "operands"} | arguments))


def test_only_a_network_with_attention_is_told_of_the_other_question():
    of = workload(1)
    assert not has_attention(of.model)
    assert SENTENCE not in measure(of, ["FP134"], ["E"]).attrs["notes"]
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    transformer = type(of)("small", layer, [torch.randn(2, 5, 8)], lambda m, x: m(x).square().mean())
    assert SENTENCE in measure(transformer, ["FP134"], ["E"]).attrs["notes"]
    assert SENTENCE not in measure(transformer, ["FP134"], points="operands").attrs["notes"]


def test_scopes_and_layers_in_full_precision():
    of = workload(1)
    table = measure(of, ["FP142"], points="operands", scopes=["layers"], exact=["0"])
    assert table["scope"].tolist() == ["0.weight", "2.weight", "4.weight"]
    # Errors that reach it, and what the layers behind it give, are rounded; its own products are not.
    [found] = Measuring(of, ["0"]).measured([formats.get("FP142")], of.batches, (Effect.OPERANDS,))
    assert found.angle(ALL) == measure(of, ["FP142"], points="operands", exact=["0"])["angle"].item()
