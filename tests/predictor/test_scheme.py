"""Schemes: what they change in a format, their names, and that measuring and training go by the same."""

import json
from dataclasses import fields, replace

import pytest
import torch

import formats
from predictor import measure
from predictor.attribution import attribute
from predictor.flow.dataflow import DataFlow
from predictor.gradient.gradients import Gradients
from predictor.gradient.noise import Kind, Noise, observe
from predictor.gradient.quantizers import error_quantizer
from predictor.scheme import AUTHORS, CURRENT, PAPER, ScaleRule, Scheme, scale_in_schemes, scheme_of, with_all_parts
from tests.nets import loss, small_workload
from training.delayed import Places
from workloads import Workload


def test_a_delayed_scale_comes_to_rest_where_it_is_measured():
    """From any start, however far off, the training's scale of one tensor ends at the one that is measured with."""
    torch.manual_seed(0)
    for headroom in (1, 2, 3):
        scheme = Scheme(headroom=headroom)
        for spread in (0.001, 1.0, 1.9, 300.0):
            x = spread * torch.randn(100)
            places = Places("A", formats.get("FP134"), headroom)
            places.tops = [["p", 0, -3]]
            for _ in range(40):
                rounded = places.round(x, "p")
                places.advance()
            assert torch.equal(rounded, scheme.at_rest(formats.get("FP134")).round(x))


def test_what_a_scheme_leaves_alone():
    for name in ("BM43", "MXFP8-E4M3", "E4M3", "FP134/channel", "FP134/headroom3", "FP134/headroom0", "NF4/block64"):
        assert PAPER.at_rest(formats.get(name)) == formats.get(name)
    assert PAPER.at_rest(formats.get("FP134/rceil")) == formats.get("FP134/rceil/headroom1")
    assert CURRENT.at_rest(formats.get("FP134")) == formats.get("FP134")


def test_what_is_said_of_a_scale():
    assert scale_in_schemes(formats.get("NF4")).startswith("headroom of A and E by the scheme: 1 (paper)")
    assert scale_in_schemes(formats.get("NF4/headroom0")) == "headroom 0 in every scheme, its own"
    assert scale_in_schemes(formats.get("NF4/block64")) == "the same scale in every scheme"


def test_codebooks_with_one_scale_get_the_headroom_too():
    for name in ("NF4", "posit<8,1>"):
        assert PAPER.at_rest(formats.get(name)) == formats.get(f"{name}/headroom1")
        assert PAPER.at_rest(formats.get(f"{name}/headroom0")) == formats.get(f"{name}/headroom0")


@pytest.mark.parametrize("values", [(0.0, 0.25, 0.5, 1.0, 2.0, 4.0), (0.0, 0.3, 0.5, 0.7, 1.0)])
def test_a_delayed_scale_of_a_codebook_comes_to_rest_where_it_is_measured(values):
    mine = formats.from_codebook(values, signed=True, name="mine")
    for largest in (0.35, 1.0, 1.4, 5.0):  # none rounds up to a power of two, which would move the scale
        x = torch.tensor([largest, -0.1, 0.3]) * torch.tensor([1.0, largest, largest])
        places = Places("A", mine, 1)
        places.tops = [["p", 0, -9]]
        for _ in range(40):
            rounded = places.round(x, "p")
            seen = places.advance()
        assert torch.equal(rounded, PAPER.at_rest(mine).round(x))
        assert (seen[0].overflows, seen[0].top_low) == (0, int(PAPER.at_rest(mine).find_top(x)))


def test_names_and_parts():
    assert scheme_of("paper") is scheme_of(PAPER) is PAPER
    assert (scheme_of("paper", scale="current"), scheme_of("current", scale="delayed")) == (CURRENT, PAPER)
    assert scheme_of("paper", two_terms=False).name == "paper"
    assert scheme_of("current", headroom=2) == Scheme(ScaleRule.CURRENT, 2, 0)
    assert scheme_of("current", headroom=2).name == "current,headroom=2"
    assert scheme_of("authors", scale="current") == replace(
        AUTHORS, scale=ScaleRule.CURRENT, headroom=0, gradient_headroom=0
    )
    assert (AUTHORS.name, scheme_of("authors,settling=20").name) == ("authors", "authors,settling=20")
    for scheme in (PAPER, CURRENT, AUTHORS, Scheme(headroom=4, two_terms=False)):
        assert Scheme.recorded(scheme.settings) == scheme
        json.dumps(scheme.settings)
    assert Scheme.recorded({}) is None
    assert Scheme.recorded({"two_terms": False}) == Scheme("current", 0, 0, two_terms=False)  # before schemes
    earlier = {"scheme": "paper", "scale": "delayed", "headroom": 1, "gradient_headroom": 2, "two_terms": True}
    assert Scheme.recorded(earlier) == PAPER
    assert with_all_parts(earlier) == PAPER.settings
    with pytest.raises(ValueError, match="headroom -1: a whole number from 0 to 255"):
        Scheme(headroom=-1)


OTHER_PARTS = {
    "scale": "current",
    "headroom": 3,
    "gradient_headroom": 0,
    "two_terms": False,
    "branches": True,
    "last_error": "current",
    "weight_scale": "delayed",
    "weight_channels": "log-and-int",
    "settling": 7,
    "rounded_decay": True,
    "all_parameters": True,
    "best_epoch": True,
}


def test_every_part_can_be_named():
    assert list(OTHER_PARTS) == [field.name for field in fields(Scheme)]
    for key, value in OTHER_PARTS.items():
        scheme = Scheme(**{key: value})
        given = f"paper,{key}={('no', 'yes')[value] if isinstance(value, bool) else value}"
        assert scheme_of(given) == scheme != PAPER
        assert scheme.name == ("paper" if key == "two_terms" else given)
        assert Scheme.recorded(scheme.settings) == scheme
    assert scheme_of(Scheme(**OTHER_PARTS | {"two_terms": True}).name) == Scheme(**OTHER_PARTS | {"two_terms": True})


def test_what_of_it_is_measured():
    """A delayed scale is at rest where the current one with its headroom is, and steps there are none of."""
    of_measuring = {"headroom", "two_terms", "branches"}
    assert {
        key for key, value in OTHER_PARTS.items() if Scheme(**{key: value}).measured != PAPER.measured
    } == of_measuring
    assert AUTHORS.measured != PAPER.measured


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("papers", "scheme 'papers': allowed are paper, current, authors"),
        ("", "scheme '': allowed are paper"),
        ("paper,branch=yes", "part of a scheme 'branch=yes': allowed are scale=delayed, headroom=1, "),
        ("paper,branches", "branches '': allowed are no, yes"),
        ("paper,branches=True", "branches 'True': allowed are no, yes"),
        ("paper,settling=-1", "settling '-1': a whole number is needed"),
        ("paper,headroom=256", "headroom 256: a whole number from 0 to 255"),
        ("paper,weight_scale=fixed", "weight scale 'fixed': allowed are delayed, current"),
        ("paper,weight_channels=all", "weight channels 'all': allowed are convolutions, log-and-int"),
        ("paper,last_error=1", "last error '1': allowed are delayed, current"),
    ],
)
def test_schemes_that_there_are_not(given, message):
    with pytest.raises(ValueError, match=message):
        scheme_of(given)


def test_a_measurement_goes_by_the_scheme():
    workload, names = small_workload(2), ["FP134", "FP134/headroom1", "BM43"]
    by_paper, by_current = (
        measure(workload, names, ["E", "A", "AE"], scheme=s).set_index("format").angle for s in ("paper", "current")
    )
    assert by_paper["FP134"].tolist() == by_paper["FP134/headroom1"].tolist() == by_current["FP134/headroom1"].tolist()
    assert by_paper["FP134"].tolist() != by_current["FP134"].tolist()
    assert by_paper["BM43"].tolist() == by_current["BM43"].tolist()
    # This network has no fork.
    authors = measure(workload, names, ["E", "A", "AE"], scheme="authors").set_index("format").angle
    assert authors.tolist() == by_paper.tolist()


def test_branches_are_measured_apart():
    """On a network with a fork, against the flow by itself; and everything that measures takes them."""
    torch.manual_seed(0)

    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = (torch.nn.Linear(8, width) for width in (8, 8, 4))

        def forward(self, x):
            h = self.first(x).relu()
            return self.last((self.second(h) + h).relu())

    data = [(torch.randn(32, 8), torch.randint(0, 4, (32,))) for _ in range(2)]
    workload = Workload("residual", Residual(), data, loss)
    format = formats.get("FP123")
    with Gradients(workload, data[0], scheme=AUTHORS) as gradients:
        [found] = [entry.gradients for entry in gradients.quantized(format, ["E"])]
    with DataFlow(workload.model) as flow:
        flow.branches = True
        total = workload.loss(flow.model, data[0])
        flow.error = error_quantizer(format, PAPER)
        wanted = flow.gradients(total, [workload.model.get_parameter(name) for name in gradients.names])
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    both = [
        measure(workload, ["FP123"], ["E", "A"], scheme=name).set_index("effect").angle for name in ("paper", "authors")
    ]
    assert both[0].E != both[1].E
    assert both[0].A == both[1].A
    with Gradients(workload, data[0], scheme=AUTHORS) as gradients:
        noise = observe(gradients)
    errors = [point.name for point, kind in zip(noise.points, noise.kinds, strict=True) if kind is Kind.E]
    # The last error is in two terms, and that of the first layer is a sum.
    assert sorted(errors) == [":add", "first:linear/1", "first:linear/2", "second:linear"]
    assert Noise.from_bytes(noise.to_bytes()).scheme == AUTHORS
    table = attribute(workload, "FP123", 1, scheme="authors")
    assert (table.attrs["scheme"], table.attrs["branches"]) == ("authors", True)
    assert {"first", "second", "last"} <= set(table[table.kind == "E"].layer)
