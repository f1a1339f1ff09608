"""Descriptions of quantizers: to plain values and back, and what they make."""

import json

import pytest
import torch

from training.quantizers.clipped import Clipped, absmax, range_clip
from training.quantizers.description import (
    KINDS,
    AtAbsmax,
    AtThreshold,
    FixedRange,
    FixedStep,
    OwnRange,
    PartOfRange,
    from_plain,
    to_plain,
)
from training.quantizers.integers import asymmetric, asymmetric_range
from training.quantizers.learned import quantize_by_step

X = torch.linspace(-2, 3, 101)
DESCRIPTIONS = {
    AtAbsmax("FP134"): Clipped("FP134")(X, absmax(X)),
    AtThreshold("INT4", 1.5): Clipped("INT4")(X, torch.tensor(1.5)),
    OwnRange(4): asymmetric_range(X, 4),
    FixedRange(3, -1.0, 2.0): asymmetric(X, torch.tensor(-1.0), torch.tensor(2.0), 3),
    FixedStep(0.25, 0.1, -4, 3): quantize_by_step(X, torch.tensor(0.25), -4, 3, 1.0, torch.tensor(0.1)),
    FixedStep(0.25, None, 0, 7): quantize_by_step(X, torch.tensor(0.25), 0, 7, 1.0),
    PartOfRange(0.5): range_clip(X, 0.5),
}


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=lambda description: description.kind)
def test_what_is_described_is_what_quantizes(description):
    plain = json.loads(json.dumps(to_plain(description)))
    assert next(iter(plain)) == "kind"
    assert from_plain(plain) == description
    assert torch.equal(from_plain(plain).quantizer()(X), DESCRIPTIONS[description])


def test_every_kind_is_there_and_none_is_nothing():
    assert {description.kind for description in DESCRIPTIONS} == set(KINDS)
    assert to_plain(None) is from_plain(None) is None


@pytest.mark.parametrize(
    "plain",
    [
        {"kind": "absmax", "format": "mine.py"},
        {"kind": "threshold", "format": "INT8", "threshold": float("nan")},
        {"kind": "range", "bits": 10**9},
        {"kind": "range", "bits": 2.5},
        {"kind": "fixed-range", "bits": 8, "low": "0", "high": 1.0},
        {"kind": "step", "step": -1.0, "offset": None, "low": 0, "high": 3},
        {"kind": "step", "step": None, "offset": None, "low": 0, "high": 3},
        {"kind": "step", "step": 1.0, "offset": 0.0, "low": 0.5, "high": 3},
        {"kind": "clip", "factor": 2.0},
    ],
)
def test_values_that_nothing_writes_are_refused(plain):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        from_plain(plain)
