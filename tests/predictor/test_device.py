"""Measuring on another device. No GPU is at hand: what runs there runs on CPU tensors here, and "meta" stands for it
where nothing is computed."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

import formats.tensors
from formats.pairs import candidate
from predictor import device
from predictor.device import device_of, gpus_for, on_device
from predictor.effects import DEFAULT_EFFECTS
from predictor.gradient import angle, noise
from predictor.gradient.gradients import Gradients
from predictor.measuring.session import Measuring, executor_of
from predictor.measuring.units import Subject
from predictor.measuring.validity import context_of
from tests.nets import loss, net
from workloads import Workload

NAMES = ["FP134", "INT8", "T8.5x3@2", "BM43", "E4M3", "NF4", "FP143+FP152", "FP134/block32"]


@pytest.fixture
def elsewhere(monkeypatch):
    """Tensors are rounded, and angles summed, as on another device."""

    def round_tensor(format, x, *, top, mode, out=None, keep_infinities=False):
        assert not (torch.is_grad_enabled() and x.requires_grad)
        return formats.tensors.round_elsewhere(format, x, top, mode, keep_infinities)

    monkeypatch.setattr(formats.tensors, "round_tensor", round_tensor)
    for module in (sys.modules["predictor.gradient.comparison"], noise):
        monkeypatch.setattr(module, "layer_sums", angle._sums_elsewhere)


@pytest.fixture
def as_they_were():
    """on_device sets what holds for all of the process."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic, torch.get_float32_matmul_precision()
    yield
    cudnn.allow_tf32, cudnn.deterministic = before[:2]
    torch.set_float32_matmul_precision(before[2])


def measured(workload):
    chosen = [candidate(name) for name in NAMES]
    return {
        (m.format, m.effect, m.minibatch): m.sums
        for m in Measuring(workload).measured(chosen, workload.batches[:2], DEFAULT_EFFECTS)
    }


def test_sums():
    torch.manual_seed(0)
    full = [torch.randn(8, 3, 3, 3).to(memory_format=torch.channels_last), torch.randn(5, 7)]
    quantized = [g + 1e-3 * torch.randn(g.shape) for g in full]
    here, there = angle.layer_sums(quantized, full), angle._sums_elsewhere(quantized, full)
    assert there.dtype == np.float64
    np.testing.assert_allclose(there, here, rtol=1e-13)


def test_angles(request):
    here = measured(net())
    request.getfixturevalue("elsewhere")
    there = measured(net())
    assert here.keys() == there.keys()
    for key, sums in here.items():
        # Gradients are equal bit for bit; only the order of the sums differs.
        np.testing.assert_allclose(there[key], sums, rtol=1e-11, atol=1e-30)
        assert angle.degrees(there[key].sum(0)) == pytest.approx(angle.degrees(sums.sum(0)), rel=1e-9)


def test_noise(request):
    def observed():
        workload = net()
        with Gradients(workload, workload.batches[0]) as gradients:
            return noise.observe(gradients, [candidate(name) for name in NAMES])

    here = observed()
    request.getfixturevalue("elsewhere")
    there = observed()
    assert (there.tables.noise == here.tables.noise).all()
    assert here.direct.keys() == there.direct.keys() != set()
    for digest, ratios in here.direct.items():
        np.testing.assert_allclose(there.direct[digest], ratios, rtol=1e-12)


def test_a_workload_is_moved(monkeypatch, as_they_were):
    monkeypatch.setattr(device, "devices", lambda: ["cpu", "meta"])
    workload = net()
    assert on_device(workload, "cpu") is workload
    assert device_of(workload) == torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = True
    moved = on_device(workload, "meta")
    assert {p.device.type for p in moved.model.parameters()} == {"meta"}
    assert device_of(moved) == torch.device("meta")
    assert not torch.backends.cudnn.allow_tf32
    assert len(moved.minibatches()) == 4
    (images, labels), *rest = moved.minibatches()[1:]
    assert len(rest) == 2
    assert images.device.type == labels.device.type == "meta"
    assert images.shape == workload.batches[1][0].shape
    assert moved.train is moved.test is None
    given = Workload(
        "sized",
        nn.Linear(2, 2),
        lambda size: [{"x": torch.ones(size)}],
        loss,
        train=[torch.ones(2)],
        test=lambda size: [torch.ones(size)],
    )
    sized = on_device(given, "meta")
    assert sized.minibatches(3)[0]["x"].device.type == "meta"
    assert sized.train[0].device.type == sized.test(3)[0].device.type == "meta"


def test_contexts_say_where(monkeypatch, as_they_were):
    monkeypatch.setattr(device, "devices", lambda: ["cpu", "meta"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda given: f"a kind of {given}")
    monkeypatch.setattr("predictor.measuring.validity.weights_digest", lambda model: "w")
    here = context_of(Subject(net()))
    assert here.device.startswith("cpu ")
    moved = on_device(net(), "meta")
    assert context_of(Subject(moved)).device == "meta a kind of meta"


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "meta", "cpu:0"])
def test_a_device_that_torch_does_not_have(name):
    with pytest.raises(ValueError, match=rf"^device '{name}': torch .* has cpu.* here$"):
        on_device(net(), name)


def test_a_cluster_has_no_gpu():
    with pytest.raises(ValueError, match="device cuda: a cluster measures on the CPU; give a device or a cluster"):
        executor_of(cluster="auto", device="cuda")


def test_each_worker_has_a_gpu_of_its_own(monkeypatch):
    names = ["H200", "H200", "other"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: names[int(name.removeprefix("cuda:"))])
    assert gpus_for(2, "cuda") == ("cuda:0", "cuda:1")
    with executor_of(workers=2, device="cuda") as executor:
        assert (executor.count, executor._free) == (2, ["cuda:0", "cuda:1"])
    with pytest.raises(ValueError, match="4 workers with device cuda: each gets a GPU of its own, and there are 3"):
        executor_of(workers=4, device="cuda")
    with pytest.raises(ValueError, match="3 workers with device cuda: GPUs of several kinds, H200, other"):
        executor_of(workers=3, device="cuda")
    with pytest.raises(ValueError, match="device 'cuda:1' with workers: give cuda, of which each worker gets a GPU"):
        executor_of(workers=1, device="cuda:1")
