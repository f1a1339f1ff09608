"""What a constant scale loses, counted against torch alone."""

import pytest
import torch

import formats
from formats.pairs import candidate
from predictor import measure
from predictor.constant_scales import lost_to_constant_scales
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from workloads import Workload


def workload(factor):
    """One product of inputs of 1 with a weight; its error is `factor` everywhere."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3, bias=False)
    return Workload("one", model, [torch.ones(2, 4)], lambda m, x: (m(x) * factor).sum())


def said(factor, *names, store=None):
    measuring = Measuring(workload(factor), store=store)
    return lost_to_constant_scales(measuring, [candidate(name) for name in names], torch.ones(2, 4))


def test_errors_that_become_0():
    # Below half of E4M3's smallest number, 2^-9; within E5M2's, 2^-16.
    lost = said(2.0**-12, "E4M3", "E5M2", "E4M3/tensor", "FP134")
    assert lost == [
        "E4M3 has a constant scale, which makes 100% of the errors 0; E4M3/tensor takes its scale from the data"
    ]
    assert [line.split()[0] for line in said(2.0**-20, "E5M2", "E4M3IEEE", "bfloat16")] == ["E5M2", "E4M3IEEE"]
    # Of a pair each rounds its own.
    assert said(2.0**-12, "E4M3+E5M2") == []
    assert len(said(2.0**-12, "E5M2+E4M3")) == 1


def test_errors_that_saturate():
    assert said(1e5, "E4M3", "E5M2") == [
        f"{name} has a constant scale, which saturates 100.00% of the errors; {name}/tensor takes its scale from the "
        "data"
        for name in ("E4M3", "E5M2")
    ]
    assert said(1.0, "E4M3", "E5M2", "E2M3") == []


def test_it_is_kept_in_the_store(tmp_path, monkeypatch):
    with Store.open(tmp_path / "s.sqlite") as store:
        first = said(2.0**-12, "E4M3", store=store)
        monkeypatch.setattr(formats.StandardFormat, "round", lambda *_, **__: pytest.fail("it was counted again"))
        assert said(2.0**-12, "E4M3", store=store) == first != []


def test_measure_says_it():
    found = measure(workload(2.0**-12), ["E4M3", "FP134"], ["E"], 1)
    assert len(found.attrs["notes"]) == 1
