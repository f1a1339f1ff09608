"""What a user's loss, network and metric do wrong is one line; what we do wrong is not theirs."""

import functools
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from numeric_formats.faults import told
from predictor.gradient.gradients import Gradients
from predictor.gradient.quantizers import activation_quantizer
from tests.nets import Breaking
from tests.sources import code, ours
from training import train
from workloads import Workload
from workloads.calls import call

MODEL = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2)))
X = torch.ones(3, 4)


class Fails(nn.Module):
    """Does something wrong behind a layer."""

    def __init__(self, what):
        super().__init__()
        self.a, self.what = nn.Linear(4, 4), what

    def forward(self, x):
        return self.what(self, self.a(x))


def assertion(net, x):
    raise AssertionError


def division(net, x):
    return x / (0 // len(x[0, :0]))


def not_there(net, x):
    raise NotImplementedError("this branch")


def shapes(net, x):
    return net.a(x[:, :3])


def mask(net, x):
    return F.scaled_dot_product_attention(x, x, x, attn_mask=torch.zeros(7, 7))


def stop(net, x):
    return next(iter(()))


def no_memory_there(net, x):
    return x.view(5, 5)


WRONG = [
    (assertion, "AssertionError"),
    (division, "ZeroDivisionError: "),
    (not_there, "NotImplementedError: this branch"),
    (shapes, "RuntimeError: mat1 and mat2"),
    (mask, "RuntimeError: "),
    (stop, "StopIteration"),
    (no_memory_there, "RuntimeError: shape"),
]


def workload(what):
    return Workload("wrong", nn.Sequential(nn.Linear(4, 4), Fails(what)), [X], lambda m, b: m(b).square().sum())


@pytest.mark.parametrize(("what", "said"), WRONG)
def test_whatever_a_network_raises_is_a_line_with_its_layer_and_file(what, said):
    with (
        pytest.raises(ValueError, match=rf"^the loss of workload wrong fails: {said}") as raised,
        Gradients(workload(what), X),
    ):
        pass
    text = str(raised.value)
    assert "(in layer 1" in text
    assert "test_calls.py, line " in text
    assert "\n" not in text
    assert told(raised.value) == text


@pytest.mark.parametrize("what", [assertion, shapes])
def test_likewise_in_training(what):
    with pytest.raises(ValueError, match=r"^the loss of workload wrong fails: .*in layer 1"):
        train(workload(what), epochs=1, start="pretrained")


class BackwardFails(torch.autograd.Function):
    """Its derivative does something wrong."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, e):
        raise AssertionError("no derivative")


def test_whatever_a_derivative_raises_is_a_line():
    with (
        pytest.raises(ValueError, match=r"^the gradient of workload wrong fails: AssertionError: no derivative"),
        Gradients(workload(lambda net, x: BackwardFails.apply(x)), X),
    ):
        pass


def test_a_metric_that_fails():
    wrong = Workload("w", MODEL, [X], lambda m, b: m(b).sum(), test=[X], metric=lambda m, b: {}["accuracy"])
    with pytest.raises(ValueError, match=r"^the metric of workload w fails: KeyError: 'accuracy'"):
        wrong.metric_of(MODEL, X)
    with pytest.raises(ValueError, match="has no metric"):
        Workload("w", MODEL, [X], lambda m, b: m(b).sum()).metric_of(MODEL, X)


def test_losses_of_libraries_and_of_ours_are_the_users():
    library = functools.partial(torch.matmul, torch.ones(2))
    with pytest.raises(ValueError, match=r"^it fails: RuntimeError: "):
        call("it", MODEL, library, torch.ones(3))
    from workloads.metrics import classification_loss

    with pytest.raises(ValueError, match=r"^it fails: RuntimeError: .*\(in layer 0\)"):
        call("it", MODEL, classification_loss, MODEL, (torch.ones(2, 5), torch.tensor([0, 1])))


def test_a_fault_of_ours_inside_stays_ours():
    for text, error in (("def f(): return None + 1", TypeError), ("def f(): raise ValueError('refused')", ValueError)):
        inner = ours(text)
        with pytest.raises(error) as raised:
            call("it", MODEL, inner)
        assert not str(raised.value).startswith("it fails")


def test_a_format_that_breaks_is_not_the_losses_fault():
    good = Workload("good", MODEL, [X], lambda m, b: m(b).square().sum())
    with Gradients(good, X) as gradients, pytest.raises(RuntimeError, match=r"^breaking broke") as raised:
        gradients.forward(activation_quantizer(Breaking()))
    assert "nets.py, line" in told(raised.value)


def test_files_and_memory_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        call("it", MODEL, code("def f(): open('nowhere')", tmp_path / "mine.py"))
    with pytest.raises(MemoryError):
        call("it", MODEL, code("def f(): raise MemoryError", tmp_path / "mine.py"))


class Data(Sequence):
    """Mini-batches the second of which cannot be had."""

    def __len__(self):
        return 3

    def __getitem__(self, number):
        if isinstance(number, slice):
            return [self[k] for k in range(*number.indices(3)) if k != 1]
        if number == 1:
            raise KeyError("no such record")
        return X


def test_mini_batches_that_fail_are_a_line():
    made = Workload("w", MODEL, Data(), lambda m, b: m(b).sum())
    batches = made.minibatches()
    assert len(batches) == 3
    assert batches[0] is X
    assert batches[-1] is X
    assert list(batches[::2]) == [X, X]
    with pytest.raises(ValueError, match=r"^mini-batch 1 of workload w fails: KeyError: 'no such record' \(.*, line"):
        batches[1]
    with pytest.raises(ValueError, match="mini-batch 1 of workload w"):
        list(batches)
    with pytest.raises(IndexError, match="mini-batch 3 of 3"):
        batches[3]


def test_making_mini_batches_that_fails_is_a_line():
    made = Workload("w", MODEL, lambda size: [X][size], lambda m, b: m(b).sum())
    with pytest.raises(ValueError, match=r"^making mini-batches of workload w fails: IndexError: list index"):
        made.minibatches(4)
