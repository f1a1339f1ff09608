"""Gradients with rounded weights: what they are, and that the weights are the user's own again, bit for bit."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import parametrizations

import formats
from predictor import Pair, measure
from predictor.effects import Effect
from predictor.gradient.gradients import Gradients
from search import rank
from search.candidates import choose
from tests.nets import small_workload
from tests.predictor.held import assert_own, held
from workloads import Workload

FP123 = formats.get("FP123")
ALL_EFFECTS = tuple(effect for effect in Effect if effect is not Effect.OPERANDS)


class Tied(nn.Module):
    """An embedding tied to the last layer, normalizations with and without two dimensions, and a convolution."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.norm = nn.LayerNorm((5, 6))
        self.conv = nn.Conv1d(5, 5, 3, padding=1)
        self.batch_norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(6, 7, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, x):
        return self.last(self.batch_norm(self.conv(self.norm(self.embedding(x)))).mean(1))


@pytest.fixture
def workload():
    torch.manual_seed(0)
    model = Tied()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    batch = (torch.randint(0, 7, (4, 5)), torch.randint(0, 7, (4,)))
    return Workload("tied", model, [batch], lambda m, b: F.cross_entropy(m(b[0]), b[1]))


class Counting:
    """FP123 that keeps the shapes of what it rounds and raises at one of its calls."""

    name, digest = "counting", "counting"

    def __init__(self, raises_at=None, error=KeyboardInterrupt):
        self.shapes, self.raises_at, self.error = [], raises_at, error

    def round(self, x):
        self.shapes.append(tuple(x.shape))
        if len(self.shapes) == self.raises_at:
            raise self.error
        return FP123.round(x)


def of_effects(gradients, effects):
    """Quantized gradients by effect."""
    return {found.effect: found.gradients for found in gradients.quantized(FP123, effects)}


@pytest.mark.parametrize("effects", [ALL_EFFECTS, (Effect.E, Effect.A, Effect.AE, Effect.W)])
def test_what_is_seen_as_it_comes_has_the_same_bits(workload, effects):
    """Also where the user has hooks, and of a parameter that a quantized pass does not reach."""
    used, passes = workload.loss, []
    spare = workload.model.spare = nn.Parameter(torch.ones(2, 2))

    def loss(model, batch):
        passes.append(None)
        return used(model, batch) + (spare.sum() if len(passes) == 1 else 0)

    workload = replace(workload, loss=loss)
    workload.model.conv.weight.register_hook(lambda g: 3 * g)
    with Gradients(workload, workload.batches[0]) as gradients:
        whole = list(gradients.quantized(FP123, effects))
        seen = {}

        def see(number, quantized, full):
            assert number not in seen
            seen[number] = quantized.clone(), full.clone()

        for expected, found in zip(whole, gradients.quantized(FP123, effects, see), strict=True):
            assert (found.effect, found.loss) == (expected.effect, expected.loss)
            for number, (q, g) in enumerate(zip(expected.gradients, expected.reference, strict=True)):
                assert torch.equal(seen[number][0], q)
                assert torch.equal(seen[number][1], g)
            assert len(seen) == len(gradients.names)
            seen.clear()


def test_what_was_seen_is_let_go(workload):
    """Before the next gradient is seen, so that all of them never lie in memory together."""
    with Gradients(workload, workload.batches[0]) as gradients:
        before = []

        def see(number, quantized, full):
            assert all(one.expired() for one in before)
            before.append(StorageWeakRef(quantized.untyped_storage()))

        for effect in (Effect.A, Effect.AE, Effect.W, Effect.WAE):
            list(gradients.quantized(FP123, [effect], see))
    assert len(before) == 4 * len(gradients.names)


def test_weights_are_rounded_and_the_gradient_is_straight_through(workload):
    """The same as the gradients of a copy whose weights of two dimensions, but no normalization's, are rounded for
    good."""
    other = copy.deepcopy(workload.model).eval()
    with torch.no_grad():
        for p in (other.embedding.weight, other.conv.weight):
            p.copy_(FP123.round(p))
    with Gradients(workload, workload.batches[0]) as gradients:
        assert gradients.names == ["embedding.weight", "conv.weight"]
        found = of_effects(gradients, [Effect.W])[Effect.W]
    expected = torch.autograd.grad(
        workload.loss(other, workload.batches[0]), [other.embedding.weight, other.conv.weight]
    )
    for q, e in zip(found, expected, strict=True):
        assert torch.equal(q, e)
    with Gradients(Workload("rounded", other, workload.batches, workload.loss), workload.batches[0]) as gradients:
        expected = of_effects(gradients, [Effect.AE])[Effect.AE]
    with Gradients(workload, workload.batches[0]) as gradients:
        found = of_effects(gradients, [Effect.WAE])[Effect.WAE]
    for q, e in zip(found, expected, strict=True):
        assert torch.equal(q, e)


def test_tied_weights_are_rounded_once_and_by_the_forward_format(workload):
    forward, backward = Counting(), Counting()
    with Gradients(workload, workload.batches[0]) as gradients:
        list(gradients.quantized(Pair(forward, backward), [Effect.W]))
    assert forward.shapes == [(7, 6), (5, 5, 3)]
    assert backward.shapes == []


def test_the_order_of_effects_and_their_graphs(workload):
    """Rounding weights in between disturbs no graph that is kept."""
    with Gradients(workload, workload.batches[0]) as gradients:
        alone = {effect: of_effects(gradients, [effect])[effect] for effect in ALL_EFFECTS}
        together = list(of_effects(gradients, ALL_EFFECTS).items())
        again = gradients.backward(gradients.loss, None, keep=True)
        assert all(torch.equal(a, b) for a, b in zip(again, gradients.full, strict=True))
    assert [effect for effect, _ in together] == ["E", "A", "AE", "E|A", "W", "WAE"]
    for effect, found in together:
        assert all(torch.equal(a, b) for a, b in zip(found, alone[effect], strict=True)), effect
    assert list(measure(workload, ["FP134"]).effect) == ["E", "A", "AE", "E|A"]
    assert list(measure(workload, ["FP134"], ["wae", "W", "E"]).effect) == ["E", "W", "WAE"]


def test_layers_kept_exact_keep_their_weights(workload):
    forward = Counting()
    with Gradients(workload, workload.batches[0], exact=["embedding"]) as gradients:
        list(gradients.quantized(forward, [Effect.W]))
        assert list(gradients.weights) == ["conv.weight"]
    assert forward.shapes == [(5, 5, 3)]
    everything = [name for name, _ in workload.model.named_modules() if name]
    assert (measure(workload, ["INT6"], ["W"], exact=everything).angle == 0).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_weights_are_restored_whatever_happens(workload, error):
    """Stop at every call of the format, be it on a weight, an activation or an error."""
    before = held(workload.model)
    counted = Counting()
    measure(workload, [counted], ["W", "WAE"])
    assert_own(workload.model, before)
    for call in range(1, len(counted.shapes) + 1):
        with pytest.raises(error):
            measure(workload, [Counting(call, error)], ["W", "WAE"])
        assert_own(workload.model, before)
    assert call > 12
    assert workload.model.training


def test_weights_are_restored_when_the_loss_is_interrupted(workload):
    before = held(workload.model)
    calls = []

    def loss(model, batch):
        calls.append(not torch.equal(model.conv.weight, before["conv.weight"][2]))
        if len(calls) == 3:  # after the flow and torch itself, unrounded
            raise KeyboardInterrupt
        return workload.loss(model, batch)

    with pytest.raises(KeyboardInterrupt):
        measure(Workload("interrupted", workload.model, workload.batches, loss), ["INT6"], ["W"])
    assert calls == [False, False, True]
    assert_own(workload.model, before)


def test_weights_are_their_own_between_effects_and_after_a_lost_restoration(workload):
    before = held(workload.model)
    with Gradients(workload, workload.batches[0]) as gradients:
        for _ in gradients.quantized(FP123, ALL_EFFECTS):
            assert_own(workload.model, before)
        abandoned = gradients.rounded_weights(FP123)
        abandoned.__enter__()
        assert not torch.equal(workload.model.conv.weight, before["conv.weight"][2])
    assert_own(workload.model, before)
    abandoned.__exit__(None, None, None)
    assert_own(workload.model, before)


def test_rank_takes_weights_by_request():
    workload = small_workload(2)
    table = rank(workload, ["FP134", "INT6"], effects=["AE", "W"]).table
    assert "angle_W" in table
    exact = measure(workload, ["INT6"], ["W"]).angle[0]
    assert table.set_index("name").angle_W["INT6"] == exact
    ranking = rank(workload, ["FP134", "INT6"], effects=["AE", "W"])
    assert ranking.by is Effect.AE
    with pytest.raises(ValueError, match="effect W is measured, never predicted"):
        rank(workload, choose(bits=8), effects=["W"])


class Dropping(nn.Module):
    """Its dropout is on in evaluation too."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 30), nn.Linear(30, 5)

    def forward(self, x):
        return self.b(F.dropout(torch.relu(self.a(x))))


def test_a_random_forward_pass_draws_the_same_for_every_format():
    torch.manual_seed(0)
    model, batch = Dropping(), (torch.randn(32, 20), torch.randint(0, 5, (32,)))
    workload = Workload("dropping", model, [batch], lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    state = torch.get_rng_state()
    # Other draws would make 60 degrees of any format.
    assert (measure(workload, ["FP169"], ["E", "A", "AE"]).angle < 0.5).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_that_fails_is_said_in_a_line(workload):
    x, y = workload.batches[0]
    wrong = Workload("wrong", workload.model, [(x, y + 1000)], workload.loss)
    with pytest.raises(ValueError, match="the loss of workload wrong fails: IndexError: Target 10"):
        measure(wrong, ["FP134"], ["E"])


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_computed_weight_is_rounded_as_the_product_sees_it(wrap):
    """Effect W: the product's weight is rounded, and the gradient goes straight through to what it is computed from."""
    torch.manual_seed(0)
    model = nn.Sequential(wrap(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 3)).eval()
    x, y = torch.randn(8, 6), torch.randint(0, 3, (8,))
    workload = Workload("computed", model, [(x, y)], lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    format = formats.get("INT4")
    with Gradients(workload, (x, y)) as gradients:
        found = dict(zip(gradients.names, next(gradients.quantized(format, [Effect.W]))[1], strict=True))
    computed, last = model[0].weight, model[2].weight.detach()
    w = format.round(computed.detach()) + (computed - computed.detach())
    head = format.round(last).requires_grad_()
    expected = F.cross_entropy(F.linear(torch.tanh(F.linear(x, w, model[0].bias)), head, model[2].bias), y)
    own = [model.get_parameter(name) for name in gradients.names[:-1]]
    theirs = torch.autograd.grad(expected, [*own, head])
    for name, g in zip(gradients.names, theirs, strict=True):
        torch.testing.assert_close(found[name], g)
