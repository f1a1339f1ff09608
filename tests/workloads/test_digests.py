"""Equal contents have equal digests, and others others."""

from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from workloads.digests import digest, weights_digest


@dataclass
class Held:
    x: torch.Tensor


def test_digests():
    x = torch.arange(6.0).reshape(2, 3)
    assert digest((x, {"a": 1})) == digest((x.clone(), {"a": 1}))
    assert digest(x) != digest(x.reshape(3, 2))
    assert digest(x) != digest(x.t().contiguous())
    assert digest(x.t()) == digest(x.t().contiguous())
    assert digest([x, x]) != digest([x])
    assert digest(np.arange(3)) != digest(np.arange(3.0))
    # Objects whose repr leaves out most of what they hold.
    big = torch.zeros(100_000)
    other = big.clone()
    other[50_000] = 1
    assert repr(big) == repr(other)
    for holder in (SimpleNamespace, UserDict, Held):
        assert digest(holder(x=big)) == digest(holder(x=big.clone()))
        assert digest(holder(x=big)) != digest(holder(x=other))
    a = nn.Linear(2, 2)
    before = weights_digest(a)
    with torch.no_grad():
        a.bias[0] += 1
    assert weights_digest(a) != before
