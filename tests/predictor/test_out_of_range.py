"""What a constant scale loses, counted against torch alone."""

import pytest
import torch

import formats
from formats.pairs import candidate
from predictor import measure
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.out_of_range import lost_out_of_range
from predictor.scheme import CURRENT, PAPER
from workloads import Workload


def workload(factor):
    """One product of inputs of 1 with a weight; its error is `factor` everywhere."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3, bias=False)
    return Workload("one", model, [torch.ones(2, 4)], lambda m, x: (m(x) * factor).sum())


def said(factor, *names, store=None):
    measuring = Measuring(workload(factor), store=store)
    return lost_out_of_range(measuring, [candidate(name) for name in names], torch.ones(2, 4))


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
        f"{name} has a constant scale, which saturates 100.00% of the errors (100% of its noise in them); "
        f"{name}/tensor takes its scale from the data"
        for name in ("E4M3", "E5M2")
    ]
    assert said(1.0, "E4M3", "E5M2", "E2M3") == []


def test_a_codebook_that_its_scale_lets_saturate():
    """Of the inputs 1 every one fits; of the errors, 1.6 and ones, the one of 1.6 does not where none is free."""
    table = formats.from_codebook([0, 0.25, 0.5, 1.0], signed=True, name="table")

    def lost(*given, scheme=PAPER):
        model = torch.nn.Linear(4, 3, bias=False)
        torch.nn.init.constant_(model.weight, 0.25)
        factors = torch.tensor([1.6, 1.0, 1.0])
        one = Workload("one", model, [torch.ones(2, 4)], lambda m, x: (m(x) * factors).sum())
        return lost_out_of_range(Measuring(one, scheme=scheme), given, torch.ones(2, 4))

    assert lost(table) == lost(formats.get("NF4")) == []  # the scheme leaves a binade free
    said_so = "saturates 33.33% of the errors (100% of its noise in them); numbers up to 2 times its largest value"
    (line,) = lost(table, scheme=CURRENT)
    assert line == f"table {said_so} come; in its file scale = {{ headroom = 1 }} keeps all within"
    assert lost(table.with_scale(formats.Scale(headroom=0)))[0].startswith(f"table/headroom0 {said_so}")
    assert "NF4/headroom1 keeps all within" in lost(formats.get("NF4"), scheme=CURRENT)[0]
    assert "NF4/block4/headroom1 keeps all within" in lost(formats.get("NF4/block4"))[0]
    assert lost(*map(formats.get, ("FP134", "INT8", "BM43", "MXFP4", "E4M3/tensor", "NVFP4")), scheme=CURRENT) == []


def test_it_is_kept_in_the_store(tmp_path, monkeypatch):
    with Store.open(tmp_path / "s.sqlite") as store:
        first = said(2.0**-12, "E4M3", store=store)
        monkeypatch.setattr(formats.StandardFormat, "round", lambda *_, **__: pytest.fail("it was counted again"))
        assert said(2.0**-12, "E4M3", store=store) == first != []


def test_measure_says_it():
    found = measure(workload(2.0**-12), ["E4M3", "FP134"], ["E"], 1)
    assert len(found.attrs["notes"]) == 1
