"""Starting from scratch: nothing is left of what was there."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from tests.training.computed import ways
from training.starting import start_from_scratch

KINDS = ways(3)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore:.*_norm.*:FutureWarning")
def test_a_computed_weight_is_drawn_anew(name):
    torch.manual_seed(0)
    model = nn.Sequential(KINDS[name](nn.Linear(6, 4)), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model(torch.randn(2, 6))
    before = model[0].weight.detach().clone()
    bias = model[0].bias.detach().clone()
    torch.manual_seed(1)
    start_from_scratch(model)
    with torch.no_grad():
        model(torch.randn(2, 6))
    after = model[0].weight.detach()
    assert not torch.isclose(after, before).all()
    assert not torch.equal(model[0].bias, bias)
    assert all(p.isfinite().all() for p in model.parameters())
    if "weight_norm" in name:
        # What a fresh layer of the same generator has.
        torch.manual_seed(1)
        fresh = nn.Linear(6, 4)
        torch.testing.assert_close(after, fresh.weight.detach())


def test_a_parameter_that_is_not_drawn_is_named():
    class Half(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.gain = nn.Parameter(torch.full((4,), 3.0))

    with pytest.raises(ValueError, match=r"parameter 0\.gain is not drawn anew"):
        start_from_scratch(nn.Sequential(Half()))


def test_a_parametrization_without_inverse_is_named():
    class Softplus(nn.Module):
        def forward(self, x):
            return nn.functional.softplus(x)

    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Softplus())
    with pytest.raises(ValueError, match=r"layer 1 \(ParametrizedLinear\) computes its weight"):
        start_from_scratch(nn.Sequential(nn.ReLU(), layer))


def test_a_network_of_transformers_draws_as_it_does_itself(tmp_path):
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(**shape, vocab_size=50, initializer_range=0.3)
    made = transformers.AutoModelForCausalLM.from_config(config)
    made.model.norm.weight.data.fill_(7)
    made.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    before = {name: p.clone() for name, p in loaded.named_parameters()}
    torch.manual_seed(1)
    start_from_scratch(loaded)
    for name, p in loaded.named_parameters():
        if "norm" in name:
            assert (p == 1).all(), name
        else:
            assert abs(p.std().item() - 0.3) < 0.02, name
            assert not torch.equal(p, before[name]), name
    first = {name: p.clone() for name, p in loaded.named_parameters()}
    torch.manual_seed(1)
    start_from_scratch(loaded)
    assert all(torch.equal(p, first[name]) for name, p in loaded.named_parameters())
