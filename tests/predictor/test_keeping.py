"""Layers that are kept in full precision, held against `measure` with those layers exact."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from predictor import measure
from predictor.keeping import keep, matching
from predictor.statistics import interval
from tests.nets import net

LAYERS = ("0", "1", "2", "3", "5")
"""Of `tests.nets.net`; 4 only moves."""


@pytest.fixture(scope="module")
def workload():
    return net(batches=2)


@pytest.fixture(scope="module")
def found(workload):
    return keep(workload, "INT4", layers=2, minibatches=2)


def each(workload, exact):
    """The angle on each of two mini-batches."""
    alone = [replace(workload, batches=[batch]) for batch in workload.minibatches()]
    return np.array([measure(one, ["INT4"], ["AE"], 1, exact=exact).angle[0] for one in alone])


def test_every_step_is_the_angle_with_those_layers_exact(workload, found):
    kept, before = [], None
    for row in found.itertuples():
        tried = [*kept, row.layer] if row.layer else []
        told = measure(workload, ["INT4"], ["AE"], 2, exact=tried).iloc[0]
        assert (row.angle, row.low, row.high) == (told.angle, told.low, told.high)
        by_minibatch = each(workload, tried)
        if before is not None:
            gains = interval(before - by_minibatch)
            assert (row.gain, row.gain_low, row.gain_high) == gains
        if before is None or row.stays:
            kept, before = tried, by_minibatch
    assert found.attrs["chosen"] == kept
    assert len(kept) == 2


def test_layers_are_tried_in_the_order_of_what_they_cause_alone(workload, found):
    alone = {}
    for layer in LAYERS:
        others = [name for name in LAYERS if name != layer]
        alone[layer] = sum(
            np.tan(np.radians(measure(workload, ["INT4"], ["AE"], 2, exact=others).angle)) ** 2 for _ in "1"
        ).item()
    tried = found.layer[1:].tolist()
    order = sorted(alone, key=alone.get, reverse=True)
    assert tried[0] == order[0]
    assert found.share[1:].is_monotonic_decreasing
    assert set(tried) <= set(LAYERS)


def test_it_ends_at_the_target(workload):
    nothing = measure(workload, ["INT4"], ["E"], 2).angle[0]
    for target, steps in ((nothing, 0), (0.0, 3)):
        table = keep(workload, "INT4", target=target, effect="E", minibatches=2)
        assert len(table) == 1 + steps
    assert keep(workload, "INT4", layers=1, effect="WAE", minibatches=1).angle.is_monotonic_decreasing


def test_what_is_refused(workload):
    with pytest.raises(ValueError, match="say how many layers may be kept"):
        keep(workload, "INT4")
    with pytest.raises(ValueError, match="effect W: allowed are E, A, AE, WAE"):
        keep(workload, "INT4", layers=1, effect="W")
    with pytest.raises(ValueError, match="target 91"):
        keep(workload, "INT4", target=91)


def test_patterns_name_layers():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "b": nn.Linear(2, 2)})
    assert matching(model, ["b", "a.*", "b"]) == ["b", "a.0", "a.1"]
    assert matching(model, ["?", "none"]) == ["a", "b", "none"]  # a name of none is refused where it is used
    with pytest.raises(ValueError, match=r"no layer matches 'c\*'; there are a, a.0, a.1, b"):
        matching(model, ["c*"])
