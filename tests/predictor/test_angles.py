"""Measured angles against gradients written out, and what is refused."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

import formats
from numeric_formats.progress import Progress
from predictor import Pair, measure
from predictor.measuring.executors import InProcess
from predictor.measuring.store import FILE, Store
from tests.nets import small_workload
from workloads import Workload


class Counting(InProcess):
    """Counts what is really measured."""

    effects = 0

    def run(self, work):
        self.effects += sum(len(unit.effects) for unit in work.units)
        return super().run(work)


@pytest.mark.parametrize(("scheme", "format"), [("current", "FP123"), ("paper", "FP123/headroom1")])
def test_measure_by_hand(scheme, format):
    """Effect AE on a linear model equals the gradient written out."""
    torch.manual_seed(1)
    w, x, t = nn.Linear(6, 4, bias=False), torch.randn(5, 6), torch.randn(5, 4)
    workload = Workload("linear", w, [(x, t)], lambda m, b: (m(b[0]).tanh() * b[1]).sum())
    found = measure(workload, ["FP123"], minibatches=1, scheme=scheme).set_index("effect").angle
    f = formats.get(format)

    def two(v):
        return f.round(v) + f.round(v - f.round(v))

    def gradient(a_format, e_format):
        xq = a_format(x)
        y = (xq @ w.weight.T).detach()
        yq = f.round(y) if a_format is not plain else y
        e = e_format(t * (1 - yq.tanh() ** 2))
        return e.T @ xq

    def plain(v):
        return v

    full = gradient(plain, plain)
    for effect, made in (("E", (plain, two)), ("A", (two, plain)), ("AE", (two, two))):
        q = gradient(*made)
        cosine = torch.dot(q.flatten().double(), full.flatten().double()) / (q.double().norm() * full.double().norm())
        assert found[effect] == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-3), effect


def test_scopes_pairs_and_counts():
    workload = small_workload()
    table = measure(
        workload,
        ["FP134", Pair(formats.get("FP143"), formats.get("FP152")), "INT6+INT6"],
        minibatches=3,
        scopes=["layers"],
    )
    assert set(table.scope) == {"0.weight", "3.weight"}
    assert set(table.format) == {"FP134", "FP143+FP152", "INT6+INT6"}
    assert (table.n == 3).all()
    assert (table.failures == 0).all()
    first = measure(workload, ["FP134"], ["E"], 3, scopes=["first", "0.weight"])
    assert first.angle[0] == first.angle[1]
    pair = measure(workload, ["FP143+FP152", "FP143", "FP152"], minibatches=2).set_index(["format", "effect"]).angle
    assert pair["FP143+FP152", "A"] == pair["FP143", "A"]
    assert pair["FP143+FP152", "E"] == pair["FP152", "E"]


def test_a_format_of_ones_own():
    class Identity:
        name, digest = "identity", "identity-1"

        def round(self, x):
            return x.clone()

    table = measure(small_workload(), [Identity(), "FP134"], minibatches=1)
    assert (table[table.format == "identity"].angle == 0).all()
    assert (table[table.format == "FP134"].angle > 0).all()


def test_what_is_refused():
    workload = small_workload()
    for arguments, message in (
        ((["FP134"], ["X"]), "effect 'X'"),
        ((["FP134"], ["E"], 0), "0 mini-batches"),
        ((["FP134"], ["E"], 9), "9 mini-batches were asked for; workload small has 3"),
        (([], ["E"]), "no format"),
        ((["FP134"], []), "no effect"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(workload, *arguments)
    with pytest.raises(ValueError, match="scope 'conv'"):
        measure(workload, ["FP134"], minibatches=1, scopes=["conv"])
    with pytest.raises(ValueError, match="ready made"):
        measure(workload, ["FP134"], minibatches=1, batch_size=4)


def test_damaged_workloads_are_refused():
    model = nn.Linear(4, 2)
    x = torch.randn(3, 4)
    cases = [
        (lambda m, b: m(b).sum() * float("nan"), "is nan in full precision"),
        (lambda m, b: m(b), "of shape"),
        (lambda m, b: b.sum(), "did not call the model"),
        (lambda m, b: m(b).detach().sum(), "does not depend on any parameter"),
        (lambda m, b: 3.0, "float"),
    ]
    for loss, message in cases:
        with pytest.raises(ValueError, match=message):
            measure(Workload("bad", model, [x], loss), ["FP134"], minibatches=1)


@pytest.mark.parametrize("stored", [False, True])
def test_a_network_without_numbers_is_refused(tmp_path, stored):
    of = Workload("planned", nn.Linear(4, 2, device="meta"), [torch.randn(3, 4)], lambda m, b: m(b).sum())
    with Store.open(tmp_path / FILE) as store, pytest.raises(ValueError, match=r"weight .* is on the meta device"):
        measure(of, ["FP134"], minibatches=1, store=store if stored else None)


def test_the_store_executor_and_progress_change_no_number(tmp_path):
    workload, names = small_workload(), ["FP134", "INT8"]
    plain = measure(workload, names, minibatches=3, scopes=["layers"])
    with Store.open(tmp_path / FILE) as store:
        # The last mini-batch is there before the others.
        last = Workload("small", workload.model, workload.batches[2:], workload.loss)
        measure(last, names, ["A"], store=store)
        assert store.info().measurements == 2
        for left in (3 * 2 * 4 - 2, 0):
            executor = Counting()
            told = []
            found = measure(
                *(workload, names),
                minibatches=3,
                scopes=["layers"],
                store=store,
                executor=executor,
                progress=told.append,
            )
            pd.testing.assert_frame_equal(found, plain, check_exact=True)
            assert told == [Progress("measure", done, 6) for done in range(7)]
            assert store.info().measurements == 3 * 2 * 4
            assert executor.effects == left
