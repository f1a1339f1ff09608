"""Training on another device. No GPU is at hand: what runs there runs on CPU tensors here."""

import numpy as np
import pandas as pd
import pytest
import torch

import formats
import formats.tensors
from formats.rounding import NEAREST
from formats.tensors import find_top
from tests.training import small
from training import checkpoint, delayed, train


@pytest.fixture
def elsewhere(monkeypatch):
    """Activations, errors and gradients are rounded, and what that did is counted, as on another device; weights are
    copied to the CPU."""
    copies, surveyed = [], []

    def round_tensor(format, x, *, top, mode, out=None, keep_infinities=False):
        # What is rounded in another mode, or with a scale a channel, has to have been copied here.
        if mode.rounding != "nearest" or format.granularity == "channel":
            copies.append(x)
            return torch.from_numpy(format.round_array(x.detach().numpy(), top=top, mode=mode))
        return formats.tensors.round_elsewhere(format, x, top, mode, keep_infinities)

    def round_surveyed(format, array, top, *, keep_infinities):
        # What CPU tensors get in one pass.
        x = torch.from_numpy(array)
        rounded = formats.tensors.round_elsewhere(format, x, top, NEAREST, keep_infinities)
        surveyed.append(x)
        return rounded.numpy(), delayed._survey_elsewhere(x, rounded, format.max(top))

    monkeypatch.setattr(formats.ProfileFormat, "round_surveyed", round_surveyed)
    monkeypatch.setattr(formats.tensors, "round_tensor", round_tensor)
    monkeypatch.setattr(delayed, "survey_of", delayed._survey_elsewhere)
    monkeypatch.setattr(delayed, "_top_of", lambda format, x: int(find_top(format, x)))
    return copies, surveyed


@pytest.mark.parametrize(
    "options", [{}, {"weight": "LOG4", "weight_rounding": "stochastic", "scale": "current"}], ids=["default", "LOG4"]
)
def test_the_same_bits_by_torch_operations(request, options):
    here = train(small.workload(), epochs=1, angle_every=3, **options)
    taken = request.getfixturevalue("elsewhere")
    there = train(small.workload(), epochs=1, angle_every=3, **options)
    assert all(taken)  # both ways were gone
    for name, values in here.model.state_dict().items():
        assert torch.equal(values, there.model.state_dict()[name]), name
    pd.testing.assert_frame_equal(here.layers, there.layers, check_exact=True)
    assert here.metric == there.metric


def test_what_rounding_did():
    torch.manual_seed(0)
    format = formats.get("FP134")
    x = torch.randn(300) * torch.logspace(-6, 2, 300)
    x[:4] = torch.tensor([float("inf"), -float("inf"), 0.0, -0.0])
    for keep in (False, True):
        q = format.round(x, top=1, keep_infinities=keep)
        found = delayed._survey_elsewhere(x, q, format.max(1))
        assert found == delayed.survey_of(x, q, format.max(1))
        assert found[1] > 2
        assert found[2] > 0
    q[7] = float("nan")
    assert np.isnan(delayed._survey_elsewhere(x, q, 1.0)[0])
    assert delayed._survey_elsewhere(x[:0], q[:0], 1.0) == delayed.survey_of(x[:0], q[:0], 1.0) == (0.0, 0, 0)


def test_a_checkpoint_of_another_device(tmp_path):
    train(small.workload(), epochs=1, output=tmp_path)
    path = tmp_path / checkpoint.NAME
    tensors, state = checkpoint.read(path)
    state["settings"]["device"] = "cuda"
    checkpoint.write(path, tensors, state)
    with pytest.raises(ValueError, match="was made with device 'cuda', not 'cpu'"):
        train(small.workload(), epochs=1, output=tmp_path, resume=True)
