"""What a comparison of recipes is told to take."""

import pytest

from predictor.recipe_comparison import outlook as recipe_outlook
from predictor.recipe_comparison.outlook import estimate_recipes
from tests.predictor.requirements.test_memory import followed, network


@pytest.fixture
def products(monkeypatch):
    """The products that stand in take a second for the full-precision gradient, and for each recipe's."""

    def timed(measuring, chosen, gradients_of, batch, head, again):
        return 1.0, {one.name: 1.0 for one in chosen}

    monkeypatch.setattr(recipe_outlook, "_timed", timed)
    monkeypatch.setattr(recipe_outlook, "_of_a_byte", lambda workload: 0.0)


def told(width, blocks, examples):
    workload = network(width, blocks, examples)
    workload.model.to("meta")
    return estimate_recipes(workload, ["mxfp8"], head=True)


def test_time_grows_with_multiply_accumulates(products):
    """Three products a layer, and a weight takes part as often as there
    are examples."""
    shape = recipe_outlook.PRODUCTS_TIMED * recipe_outlook.WIDTH**2
    for width, blocks, examples in ((64, 1, 8), (64, 2, 8), (64, 1, 32), (128, 1, 8), (512, 12, 4096)):
        found = told(width, blocks, examples)
        count = 6 * blocks * 4 * width**2 * examples
        # The full-precision gradient, torch's own, bf16 and mxfp8.
        assert found.seconds == pytest.approx(4 * count / (shape * min(examples, recipe_outlook.WIDTH)))
        assert not found.timed


def test_bytes_between_products_take_time(products, monkeypatch):
    before = told(64, 1, 8)
    monkeypatch.setattr(recipe_outlook, "_of_a_byte", lambda workload: 0.5)
    assert told(64, 1, 8).seconds - before.seconds == pytest.approx(4 * 0.5 * before.memory.activations)


def test_a_network_that_takes_long_is_not_timed(monkeypatch):
    workload = network(64, 1, 8)
    assert estimate_recipes(workload, ["mxfp8"]).timed
    monkeypatch.setattr(recipe_outlook, "LONGEST_TIMED", 0.0)
    by_shapes = followed(monkeypatch)
    found = estimate_recipes(workload, ["mxfp8"])
    assert not found.timed
    assert by_shapes == [True, True]
    assert found.seconds > 0
