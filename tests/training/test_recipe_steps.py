"""Training with a recipe: every step's gradient is what measuring gives, float32 is float32, and runs go on."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import formats
from predictor import measure_recipes
from predictor.flow.dataflow import DataFlow
from predictor.gradient.gradients import Gradients
from predictor.recipes.gradients import with_recipe
from predictor.recipes.placed import Placed
from predictor.recipes.products import RecipeAtSites, number_of
from tests.training import small
from tests.training.runs import assert_same_run, same, state
from tests.training.small import FULL
from training import train
from training.step import Trainer
from workloads import Workload


class Network(nn.Module):
    """A convolution, a recurrent layer, an MLP whose first half may be computed again, and a head."""

    def __init__(self, again=False):
        super().__init__()
        self.again = again
        self.conv = nn.Conv1d(6, 20, 3)
        self.steps = nn.GRU(20, 12, batch_first=True)
        self.norm = nn.LayerNorm(12)
        self.wide, self.narrow = nn.Linear(12, 40), nn.Linear(40, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        y = self.norm(self.steps(self.conv(x).transpose(1, 2))[0].mean(1))
        hidden = checkpoint(self.wide, y, use_reentrant=False) if self.again else self.wide(y)
        return self.head(torch.tanh(self.narrow(F.gelu(hidden))))


def workload(again=False, batches=2):
    torch.manual_seed(0)
    model = Network(again)
    data = [(torch.randn(10, 6, 5), torch.randint(0, 4, (10,))) for _ in range(batches)]
    return Workload("small", model, data, lambda m, b: F.cross_entropy(m(b[0]), b[1]))


MIXED = formats.recipe(
    "mixed", x="E4M3/real", w="FP134", dy="MXFP4", history=2, dgrad={"rounding": {"dy": "stochastic"}},
    wgrad={"x": "NVFP4", "hadamard": 8},
)  # fmt: skip
RECIPES = {
    "nvfp4": "nvfp4",
    "delayed": "fp8-delayed",
    "mixed": MIXED,
    "between": formats.recipe("between", base="mxfp6-e3m2", elsewhere="bfloat16"),
    "one format": "FP143+E5M2/real",
}


@pytest.fixture
def steps(monkeypatch):
    """What every step was made from, and its gradients."""
    seen = []
    gradients = Trainer._gradients

    def watched(trainer, batch):
        made_from = copy.deepcopy(trainer.flow.model), batch
        loss, found = gradients(trainer, batch)
        seen.append((*made_from, {w.name: g.clone() for w, g in zip(trainer.weights, found, strict=True)}))
        return loss, found

    monkeypatch.setattr(Trainer, "_gradients", watched)
    return seen


OPTIONS = {"epochs": 2, "rate": 0.05, "start": "pretrained"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *((name, {}) for name in RECIPES),
        ("mixed", {"head": True}),
        ("nvfp4", {"exact": ("conv", "head")}),
        ("mixed", {"keep": ("wide", "steps:linear")}),
    ],
)
def test_every_step_has_the_gradient_that_measuring_gives(name, place, steps):
    recipe = formats.recipe(RECIPES[name])
    of = workload()
    train(of, recipe=recipe, seed=5, **place, **(OPTIONS | {"epochs": 1 if place else 2}))
    assert len(steps) == (2 if place else 4)
    kept = frozenset({"wide:linear", "steps:linear"} if "keep" in place else ())
    before = []
    for number, (model, batch, found) in enumerate(steps):
        history = before if recipe.history == 0 else before[-(recipe.history or 1) :]
        tops = {key: max(each[key] for each in history) for key in (history[0] if history else ())}
        given = tuple(sorted(tops.items())) if recipe.history is not None else ()
        placed = Placed(
            recipe, head="head" in place, kept=kept, instead=formats.recipe("bf16"), seed=5, draw=number, tops=given
        )
        with Gradients(replace(of, model=model), batch, exact=place.get("exact", ())) as gradients:
            expected, sites = with_recipe(gradients, placed)
            assert set(gradients.names) < set(found)  # biases and norms beside them
            for parameter, g, full in zip(gradients.names, expected.gradients, gradients.full, strict=True):
                assert torch.equal(found[parameter], g), (number, parameter)
                changed = not torch.equal(g, full)
                assert changed or parameter.partition(".")[0] in (*place.get("exact", ()), "head"), parameter
        before.append(sites.tops)
    assert (recipe.history is None) == (not before[0])


def test_other_seeds_and_steps_draw_other_numbers(steps):
    of = replace(workload(), batches=workload(batches=1).batches)
    for seed in (0, 1):
        # Weights stay where they are.
        train(of, recipe="nvfp4-2d-sr", seed=seed, weight_decay=0.0, **(OPTIONS | {"rate": 0.0}))
    assert len({found["wide.weight"].numpy().tobytes() for _, _, found in steps}) == 4
    steps.clear()
    train(of, recipe="nvfp4-2d", weight_decay=0.0, **(OPTIONS | {"rate": 0.0}))
    assert torch.equal(steps[0][2]["wide.weight"], steps[1][2]["wide.weight"])


def test_what_is_computed_again_draws_the_same():
    recipe = formats.recipe("x", base=MIXED, fprop={"x": "MXFP4", "rounding": "stochastic"})
    plain, again = (train(workload(each), recipe=recipe, **OPTIONS) for each in (False, True))
    assert same(state(plain.model), state(again.model))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_recipe_of_float32_is_float32(optimizer):
    """With convolutions, batch normalization, dropout and a metric."""
    nothing = formats.recipe("nothing", x="float32", w="float32", dy="float32")
    options = small.OPTIONS | {"rate": 0.01, "optimizer": optimizer}
    plain, found = train(small.workload(), **FULL, **options), train(small.workload(), recipe=nothing, **options)
    assert_same_run(plain, found)
    assert plain.metric == found.metric


def test_the_metric_is_of_products_that_the_recipe_computes():
    of = small.workload()
    found = train(of, recipe="mxfp4", epochs=1, rate=0.05, seed=3)
    images, labels = of.test[0]
    with DataFlow(found.model) as flow, torch.no_grad():
        placed = Placed(formats.recipe("mxfp4"), seed=3, draw=8)
        flow.site = RecipeAtSites(placed, frozenset({"8:linear"}), number_of("3 8 metric"))
        flow.pointed = False
        rounded = float((found.model(images).argmax(1) == labels).float().mean())
    assert found.metric == rounded != small.accuracy(found.model, (images, labels))
    # (2 x 4608 + 3 x 5184) of these and 3 x 288 an image.
    assert found.coverage[-1] == (
        "recipe mxfp4: 2 products with 96.63% of the multiply-accumulates; left in float32: 8:linear"
    )


@pytest.mark.parametrize("name", ["mixed", "nvfp4"])
def test_an_interrupted_training_goes_on_to_the_same_bits(name, tmp_path):
    def interrupted(progress):
        if progress.done == 5:
            raise KeyboardInterrupt

    options = small.OPTIONS | {"recipe": RECIPES[name], "seed": 2}
    whole = train(small.workload(), **options)
    with pytest.raises(KeyboardInterrupt):
        train(small.workload(), output=tmp_path, progress=interrupted, **options)
    went_on = train(small.workload(), output=tmp_path, resume=True, **options)
    assert_same_run(whole, went_on)
    assert (
        json.loads((tmp_path / "result.json").read_text())["recipe"]["digest"] == formats.recipe(RECIPES[name]).digest
    )
    # What it was made with binds it.
    for other, match in (
        ({"recipe": "mxfp4"}, "recipe .*, not 'mxfp4'"),
        ({"head": True}, "head False, not True"),
        ({"exact": ["0"]}, r"exact \[\], not \['0'\]"),
        ({"keep": ["0"]}, r"keep None, not \['0'\]"),
        ({"recipe": formats.recipe(formats.recipe(RECIPES[name]).name, base="mxfp8")}, "another recipe"),
    ):
        with pytest.raises(ValueError, match=match):
            train(small.workload(), output=tmp_path, resume=True, **(options | other))
    with pytest.raises(ValueError, match=r"recipe '.*', not None"):
        train(small.workload(), output=tmp_path, resume=True, **(options | {"recipe": None}), **FULL)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"activation": "FP134"}, "recipe mxfp8 was given together with activation: a recipe rounds operands"),
        ({"error": "float32", "master": "FP169"}, "together with error, master:"),
        ({"weight": "LOG4"}, "together with weight:"),
        ({"gradient": "INT8"}, "together with gradient:"),
        ({"weight_rounding": "nearest"}, "together with weight rounding:"),
        ({"master_rounding": "nearest"}, "together with master rounding:"),
        ({"hysteresis_epochs": 1}, "together with hysteresis epochs:"),
        ({"scheme": "authors"}, "together with scheme:"),
        ({"scale": "current"}, "together with scale:"),
        ({"two_terms": False}, "together with one term:"),
        ({"recipe": "mxfp9"}, "unknown recipe 'mxfp9'; did you mean mxfp8"),
        ({"exact": ["nothing"]}, "there is no layer 'nothing' to keep exact"),
        ({"keep": ["wide", "head"]}, "no product of layer 'head' is changed by a recipe, to keep it; there are conv:"),
        ({"recipe": None, "head": True}, "give them with a recipe"),
        ({"recipe": None, "keep": ["wide"]}, "give them with a recipe"),
    ],
)
def test_what_contradicts_a_recipe_is_refused(given, match):
    with pytest.raises(ValueError, match=match) as refused:
        train(workload(), epochs=1, **({"recipe": "mxfp8"} | given))
    assert "\n" not in str(refused.value)


def test_a_method_contradicts_a_recipe():
    from training.methods import LSQ

    with pytest.raises(ValueError, match="together with method:"):
        train(workload(), epochs=1, recipe="mxfp8", method=LSQ())


def test_a_network_without_products_is_refused():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 3))

        def forward(self, x):
            return x * self.scale

    of = Workload("scaled", Scaled(), [torch.randn(3, 3)], lambda m, b: m(b).square().mean())
    with pytest.raises(ValueError, match="no product of its network has a weight"):
        train(of, epochs=1, recipe="mxfp8", start="pretrained")


def test_an_exact_head_leaves_the_others_in_the_recipe():
    """What is measured with the head named exact is what is measured without."""
    tables = [measure_recipes(workload(), ["mxfp4"], 1, exact=exact) for exact in ([], ["head"])]
    assert tables[0]["angle"].tolist() == tables[1]["angle"].tolist()
    assert np.isclose(tables[0]["share"], tables[1]["share"]).all()
