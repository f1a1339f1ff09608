"""Formats at a clipping threshold."""

import pytest
import torch

from training.quantizers.clipped import Clipped, absmax


@pytest.mark.parametrize("name", ["INT8", "INT4", "FP134", "E4M3", "NF4", "LOG4", "INT8/real", "T8.5x3@2"])
def test_a_format_at_a_threshold(name):
    """The largest value lies at the threshold, values beyond it become it, NaN and infinities stay, codes give the same
    values."""
    torch.manual_seed(0)
    quantizer, x, c = Clipped(name), 3 * torch.randn(4000), torch.tensor(2.7)
    y = quantizer(x, c)
    assert y.abs().max().item() == pytest.approx(2.7, rel=1e-6)
    assert torch.equal(y[x > 2.7], torch.full_like(y[x > 2.7], y.max()))
    codes, step = quantizer.encode(x, c)
    assert torch.equal(quantizer.decode(codes, step), y + 0.0)
    strange = quantizer(torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0]), c)
    assert strange[0].isnan()
    assert strange[1:3].tolist() == [torch.inf, -torch.inf]
    half = quantizer(x.bfloat16(), c)
    assert half.dtype is torch.bfloat16
    assert torch.equal(quantizer(torch.zeros(3), torch.tensor(0.0)), torch.zeros(3))
    assert absmax(torch.zeros(0)) == 0


def test_a_stochastic_threshold_is_unbiased():
    from formats import Rounding
    from training.weights import Streams

    x, c, streams = torch.full((200_000,), 0.3137), torch.tensor(1.0), Streams(0)
    drawn = Clipped("INT4")(x, c, Rounding.STOCHASTIC, streams)
    assert len(drawn.unique()) == 2
    assert drawn.mean().item() == pytest.approx(0.3137, abs=5 * (1 / 7) / 2 / 200_000**0.5)
    assert not torch.equal(drawn, Clipped("INT4")(x, c, Rounding.STOCHASTIC, streams))
