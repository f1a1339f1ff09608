"""The bundled classifiers, their mini-batches and their weights."""

import numpy as np
import pytest
from torch import nn

from benchmarks.pretrain.__main__ import to_float16
from workloads import load
from workloads.bundled.networks import load_weights
from workloads.networks.resnet import resnet18, resnet20


@pytest.mark.slow
def test_resnet18_is_full_width_and_reaches_its_accuracy():
    workload = load("resnet18")
    assert sum(p.numel() for p in workload.model.parameters()) == 11_172_810
    assert len(workload.minibatches(128)) == 100
    tests = workload.test(500)
    assert len(tests) == 4
    workload.model.eval()
    # All 10,000 test images: 0.9426 (benchmarks/pretrain_resnet18.txt); these are the first 2,000.
    assert np.mean([workload.metric(workload.model, batch) for batch in tests]) > 0.93


@pytest.mark.slow
def test_resnet20_is_the_cifar_network_and_reaches_its_accuracy():
    workload = load("resnet20")
    assert sum(p.numel() for p in workload.model.parameters()) == 269_434
    workload.model.eval()
    # All 10,000 test images: 0.9366 (benchmarks/pretrain_resnet20.txt); these are the first 2,000.
    assert np.mean([workload.metric(workload.model, batch) for batch in workload.test(500)]) > 0.92


@pytest.mark.parametrize("name", ["resnet20", "lstm"])
def test_batches_larger_than_the_data(name):
    workload = load(name)
    assert workload.train(10**6) == []  # and not one without examples, whose loss is not a number
    [everything] = workload.test(10**6)
    assert len(everything[0]) == len(workload.test(1))
    with pytest.raises(ValueError, match="has no mini-batches of 1000000"):
        workload.minibatches(10**6)


@pytest.mark.slow
def test_mobilenetv2_is_depthwise_and_reaches_its_accuracy():
    workload = load("mobilenetv2")
    assert sum(p.numel() for p in workload.model.parameters()) == 149_034
    depthwise = [m for m in workload.model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 8
    assert all(m.groups == m.in_channels == m.out_channels for m in depthwise)
    workload.model.eval()
    # All 10,000 test images: 0.9117 (benchmarks/pretrain_mobilenetv2.txt); these are the first 2,000.
    assert np.mean([workload.metric(workload.model, batch) for batch in workload.test(500)]) > 0.90


def test_weights_of_another_network_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file(to_float16(resnet20()), path)
    load_weights(resnet20(), path)
    with pytest.raises((ValueError, RuntimeError), match=r"does not fit|size mismatch"):
        load_weights(resnet18(), path)
    with pytest.raises(FileNotFoundError, match="missing from this installation"):
        load_weights(resnet20(), tmp_path / "none.safetensors")
