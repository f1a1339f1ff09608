"""Gradients of a mini-batch from its micro-batches."""

from contextlib import ExitStack

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import formats
import predictor.requirements.memory
from predictor.effects import Effect
from predictor.gradient.gradients import Gradients
from predictor.gradient.micro_batches import GradientsOfParts, parts_of
from predictor.measuring.session import Measuring
from predictor.measuring.units import Subject, Unit, measure_unit
from predictor.measuring.workers import Workers
from predictor.requirements.memory import memory_of, parts_within
from search import rank
from search.planning import plan
from tests.nets import loss, net
from workloads import Workload

EFFECTS = (Effect.E, Effect.A, Effect.AE, Effect.E_GIVEN_A, Effect.W, Effect.WAE)


@pytest.fixture(scope="module")
def workload():
    return net()


@pytest.mark.parametrize("count", [2, 3, 5, 16, 40])
def test_the_gradient_is_that_of_the_whole(workload, count):
    batch = workload.batches[0]
    parts = parts_of(workload, batch, count)
    assert len(parts) == min(count, 16)
    assert torch.equal(torch.cat([part[0] for part, _ in parts]), batch[0])
    assert sum(share for _, share in parts) == pytest.approx(1)
    with Gradients(workload, batch) as whole, GradientsOfParts(workload, batch, count) as split:
        assert split.names == whole.names
        assert split.loss.item() == pytest.approx(whole.loss.item(), rel=1e-6)
        for ours, theirs in zip(split.full, whole.full, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_quantized_gradient_is_the_mean_of_those_of_the_parts(workload):
    batch, format = workload.batches[0], formats.get("FP134")
    parts = parts_of(workload, batch, 3)
    with GradientsOfParts(workload, batch, 3) as split, ExitStack() as opened:
        of_parts = []
        for part, _ in parts:
            with Gradients(workload, part) as own:
                of_parts.append({q.effect: (q, own.loss.item()) for q in own.quantized(format, EFFECTS)})
        seen = {}
        for found in split.quantized(format, EFFECTS):
            pairs = zip(found.gradients, found.reference, strict=True)
            for number, (ours, compared) in enumerate(pairs):
                theirs, reference = (
                    sum(
                        share * of[found.effect][0][which][number]
                        for of, (_, share) in zip(of_parts, parts, strict=True)
                    )
                    for which in (1, 2)
                )
                assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9), found.effect
                assert torch.allclose(compared, reference, rtol=1e-6, atol=1e-9), found.effect
            more = sum(share * of[found.effect][0].loss for of, (_, share) in zip(of_parts, parts, strict=True))
            assert found.loss == pytest.approx(more, abs=1e-6)
            seen[found.effect] = found
        assert tuple(seen) == EFFECTS
        assert opened is not None


def test_what_is_seen_as_it_comes_is_what_is_given(workload):
    batch, format = workload.batches[0], formats.get("INT8")
    shown = {}
    with GradientsOfParts(workload, batch, 4) as split:
        given = next(iter(split.quantized(format, (Effect.AE,)))).gradients
        list(split.quantized(format, (Effect.AE,), lambda number, q, g: shown.update({number: (q, g)})))
        assert all(torch.equal(shown[number][0], g) for number, g in enumerate(given))
        assert all(shown[number][1] is g for number, g in enumerate(split.full))


def of_sums(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")


def without_statistics():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    model.append(nn.Linear(4 * 36, 10))
    return Workload("normalized", model, [(torch.randn(8, 1, 8, 8), torch.arange(8))], loss)


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        (net(loss=of_sums), "workload small cannot be split for --memory: its loss on 8 examples is"),
        (without_statistics(), "workload normalized cannot be split for --memory: its loss on 4 examples is"),
    ],
)
def test_what_is_not_a_mean_over_examples_is_refused(workload, said):
    with pytest.raises(ValueError, match=said), GradientsOfParts(workload, workload.batches[0], 4):
        pass


def test_tensors_of_different_lengths_are_refused(workload):
    with pytest.raises(ValueError, match="cannot be split for --memory: their tensors do not share"):
        parts_of(workload, (torch.zeros(4), torch.zeros(3)), 2)


def test_as_many_parts_as_the_memory_asks_for(workload, monkeypatch):
    monkeypatch.setattr(predictor.requirements.memory, "resident_memory", lambda: 0)
    batch = workload.batches[0]
    whole = memory_of(workload, batch)
    wanted = whole.gradients + whole.activations + whole.at_hand
    assert parts_within(workload, batch, int(wanted / 0.9) + 9, graphs=1) == 1
    two = whole.gradients + 2 * whole.activations + whole.at_hand
    assert parts_within(workload, batch, int(0.95 * two / 0.9), graphs=2) > 1
    counts = [parts_within(workload, batch, int(share * wanted), graphs=1) for share in (0.88, 0.95, 1.05, 1.2)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 1 == counts[-1]
    with pytest.raises(ValueError, match=r"--memory .*G is too little for workload small: one example at a time takes"):
        parts_within(workload, batch, 1000, graphs=1)


def test_a_ranking_in_little_memory(workload, monkeypatch):
    monkeypatch.setattr("search.planning.parts_within", lambda *_: 4)
    chosen, memory = ["FP134", "INT8", "FP143"], 1 << 30
    with Workers(2, 1) as two:
        torch.set_num_threads(1)
        tables = [rank(workload, chosen, minibatches=2, memory=memory, executor=executor) for executor in (None, two)]
    assert tables[0].table.drop(columns="seconds").equals(tables[1].table.drop(columns="seconds"))
    assert tables[0].settings.parts == 4
    assert any("4 micro-batches" in note for note in tables[0].settings.notes)
    alone = rank(workload, chosen, minibatches=2).table.set_index("name").angle_E
    split = tables[0].table.set_index("name").angle_E
    assert (split / alone[split.index]).between(0.5, 2).all()
    assert plan(workload, memory=memory, minibatches=2).gradients > 0
    with pytest.raises(ValueError, match="--memory with points operands"):
        rank(workload, chosen, points="operands", memory=memory)


def test_a_screen_sees_the_first_part(workload):
    measuring, unit = Measuring(workload, parts=4), Unit(0, 0, (Effect.E,))
    batch = workload.batches[0]
    with measuring.opened(batch) as gradients:
        assert gradients.batch[0].shape[0] == 4
    assert measuring.checked is not None
    context = measuring.context(), Measuring(workload).context()
    assert context[0].digest != context[1].digest
    with Subject(workload, parts=4).gradients(batch) as gradients:
        [found] = measure_unit(gradients, unit, formats.get("FP134"))
    assert 0 < found.angle() < 90
