"""Rounding as a module."""

import pytest
import torch

import formats
from formats.torch import Quantize


def test_quantize_module():
    a, e = formats.get("FP134"), formats.get("FP123")
    model = torch.nn.Sequential(torch.nn.Linear(6, 4, bias=False), Quantize(a, e))
    x, w = torch.randn(5, 6), torch.randn(5, 4)
    out = model(x)
    assert torch.equal(out, a.round(model[0](x)))
    (out * w).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, e.round(w).T @ x)
    assert torch.equal(Quantize(None)(x), x)
    assert torch.equal(Quantize(a.name)(x), a.round(x))
    with pytest.raises(ValueError, match="did you mean FP143"):
        Quantize("FP1433")
    assert Quantize(a)(x.bfloat16()).dtype is torch.bfloat16
    assert "FP134" in repr(model)
    clipped = Quantize(a, gradient="clipped")
    y = x.clone().requires_grad_()
    clipped(y).sum().backward()
    assert torch.equal(y.grad, (y.abs() <= a.max(int(a.find_top(y)))).float())
    with pytest.raises(ValueError, match="allowed are straight-through, clipped"):
        Quantize(a, gradient="none")
