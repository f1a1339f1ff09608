"""Schemes: what they change in a format, their names, and that measuring and training go by the same."""

import pytest
import torch

import formats
from predictor import measure
from predictor.scheme import CURRENT, PAPER, ScaleRule, Scheme, scheme_of
from tests.nets import small_workload
from training.delayed import Places


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
    for name in ("BM43", "MXFP8-E4M3", "E4M3", "FP134/channel", "FP134/headroom3", "NF4"):
        assert PAPER.at_rest(formats.get(name)) == formats.get(name)
    assert PAPER.at_rest(formats.get("FP134/rceil")) == formats.get("FP134/rceil/headroom1")
    assert CURRENT.at_rest(formats.get("FP134")) == formats.get("FP134")


def test_names_and_parts():
    assert scheme_of("paper") is scheme_of(PAPER) is PAPER
    assert (scheme_of("paper", scale="current"), scheme_of("current", scale="delayed")) == (CURRENT, PAPER)
    assert scheme_of("paper", two_terms=False).name == "paper"
    assert scheme_of("current", headroom=2) == Scheme(ScaleRule.CURRENT, 2, 0)
    assert scheme_of("current", headroom=2).name == "current, headroom 2 (0 for weight gradients)"
    for scheme in (PAPER, CURRENT, Scheme(headroom=4, two_terms=False)):
        assert Scheme.recorded(scheme.settings) == scheme
    assert Scheme.recorded({}) is None
    assert Scheme.recorded({"two_terms": False}) == Scheme("current", 0, 0, two_terms=False)  # before schemes
    with pytest.raises(ValueError, match="scheme 'papers': allowed are paper, current"):
        scheme_of("papers")
    with pytest.raises(ValueError, match="headroom -1: a whole number from 0 to 255"):
        Scheme(headroom=-1)


def test_a_measurement_goes_by_the_scheme():
    workload, names = small_workload(2), ["FP134", "FP134/headroom1", "BM43"]
    by_paper, by_current = (
        measure(workload, names, ["E", "A", "AE"], scheme=s).set_index("format").angle for s in ("paper", "current")
    )
    assert by_paper["FP134"].tolist() == by_paper["FP134/headroom1"].tolist() == by_current["FP134/headroom1"].tolist()
    assert by_paper["FP134"].tolist() != by_current["FP134"].tolist()
    assert by_paper["BM43"].tolist() == by_current["BM43"].tolist()
