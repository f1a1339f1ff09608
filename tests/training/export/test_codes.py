"""Exports as codes and scales."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training import small
from tests.training.methods.killed import ALL
from training import train
from training.export.codes import export, load
from training.methods import LSQ, quantized
from training.quantizers.description import from_plain


@pytest.mark.parametrize("name", [name for name in ALL if name != "octo-demo"])
def test_the_export_computes_what_evaluation_computes(tmp_path, name):
    workload = small.workload()
    found = train(workload, method=ALL[name], epochs=2, rate=0.05)
    export(tmp_path / "net.safetensors", found.model, found.method_state)
    plain = load(tmp_path / "net.safetensors", workload.model)
    x, y = small.images(64, 5)
    with quantized(found.model, found.method_state):
        expected = found.model(x)
    with torch.no_grad():
        assert (plain(x) - expected).norm() <= 1e-5 * expected.norm()
        # It is the quantized network that was exported, and what the metric is of.
        assert (found.model(x) - expected).norm() > 1e-3 * expected.norm()
    assert small.accuracy(plain, small.images(128, 2)) == pytest.approx(found.metric, abs=0.02)
    saved = load_file(tmp_path / "net.safetensors")
    codes = [tensor for key, tensor in saved.items() if key.endswith(".codes")]
    assert codes
    assert all(tensor.dtype in (torch.int8, torch.uint8) for tensor in codes)
    # The float weights of quantized layers are not in the file.
    assert not any(key.removesuffix(".codes") in saved for key in saved if key.endswith(".codes"))
    assert y.shape == (64,)


def test_exports_that_do_not_fit_are_refused(tmp_path):
    found = train(small.workload(1), method=LSQ(), epochs=1)
    path = tmp_path / "net.safetensors"
    export(path, found.model, found.method_state)
    with pytest.raises(ValueError, match=r"has no 1.weight, .*another network"):
        load(path, nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Linear(3, 3)))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="cut short or no export"):
        load(path, found.model)
    with pytest.raises(ValueError, match="quantizer 'cubic': allowed are absmax, threshold, range"):
        from_plain({"kind": "cubic"})
