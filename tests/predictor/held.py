"""That a network's weights are its own again."""

import torch


def held(model):
    """Where the parameters are, and copies of their values."""
    return {name: (p, p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}


def assert_own(model, before):
    """The parameters are where they were, with the same bits."""
    now = dict(model.named_parameters())
    assert now.keys() == before.keys()
    for name, (p, place, values) in before.items():
        assert now[name] is p
        assert p.data_ptr() == place, name
        assert torch.equal(p.detach().view(torch.int32), values.view(torch.int32)), name
