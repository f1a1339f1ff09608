"""The one-pass loops of methods against what they stand for, written out in torch."""

import pytest
import torch

from predictor.flow.operands import Operands
from predictor.flow.sites import Quantizers, Site, compute
from tests.processes import python
from tests.training.methods.helper import started
from training.methods import DistributionAdaptiveInt8, Octo, UnifiedInt8
from training.methods.channels import channel_statistics
from training.quantizers.clipped import Clipped, absmax, range_clip
from training.quantizers.integers import asymmetric_range
from training.quantizers.learned import _Fused, _General, quantize_by_step


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("with_offset", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "expanded gradient", "strided"])
def test_learned_steps(layout, with_offset, threads):
    torch.manual_seed(0)
    x = torch.randn(8, 16, 28, 28)
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        x = torch.randn(8, 16, 28, 56)[..., ::2]
    x[0, 0, 0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])
    gradient = torch.randn(1, 1, 1, 1).expand(x.shape) if layout == "expanded gradient" else torch.randn(x.shape)
    found = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for function in (_Fused, _General):
            own = x.clone(memory_format=torch.preserve_format).requires_grad_()
            step, offset = (
                torch.tensor(0.13, requires_grad=True),
                torch.tensor(-0.2, requires_grad=True) if with_offset else None,
            )
            y = function.apply(own, step, offset, -8, 7, 0.01)
            y.backward(gradient)
            found.append((y.detach(), own.grad, step.grad, None if offset is None else offset.grad))
    finally:
        torch.set_num_threads(before)
    ours, theirs = found
    assert torch.equal(ours[0].nan_to_num(99), theirs[0].nan_to_num(99))
    assert torch.equal(ours[1], theirs[1])
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-5, atol=1e-6, equal_nan=True)
    if with_offset:
        torch.testing.assert_close(ours[3], theirs[3], rtol=1e-5, atol=1e-6)


def test_learned_steps_on_the_ends_of_the_grid():
    x = torch.tensor([-4.0, -2.0, -1.75, 0.5, 1.5, 1.75, 3.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    y = quantize_by_step(x, step, -4, 3, 1.0)
    assert y.tolist() == [-2, -2, -2, 0.5, 1.5, 1.5, 1.5]
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0, 0]
    # -4 at and beyond the low end, the rounding residual (-4 - -3.5) inside, 3 at and beyond the high end.
    assert step.grad.item() == -4 - 4 - 0.5 + 0 + 3 + 3 + 3


MANY_THREADS = """
import torch
from formats.kernel import threads
from training.quantizers.learned import quantize_by_step
threads.MIN_ELEMENTS_PER_THREAD = 64
threads.available = lambda: 600
x = torch.full((600 * 64,), 3.0, requires_grad=True)
step = torch.tensor(0.5, requires_grad=True)
quantize_by_step(x, step, -4, 3, 1.0).sum().backward()
print(step.grad.item())
"""


@pytest.mark.slow
def test_more_threads_than_any_machine_has():
    """In a process of its own, since the threads stay."""
    assert float(python("-c", MANY_THREADS).stdout) == 3 * 600 * 64


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_channel_statistics(axis):
    torch.manual_seed(1)
    x = torch.randn(6, 16, 9, 11) * torch.rand(16)[:, None, None] + 0.3
    for given in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(0, 2).contiguous().transpose(0, 2)):
        rows = given.movedim(axis, 0).flatten(1)
        for sigma, deviation in (("mean", rows.std(1, correction=0)), ("zero", rows.square().mean(1).sqrt())):
            largest, beyond = channel_statistics(given, axis, sigma)
            assert torch.equal(largest, rows.abs().amax(1))
            assert torch.equal(beyond, (rows.abs() > deviation[:, None]).double().mean(1))


@pytest.mark.parametrize("bits", [4, 8])
def test_asymmetric_grids(bits):
    torch.manual_seed(2)
    for x in (
        torch.randn(5000),
        torch.rand(5000) + 1,
        -torch.rand(5000),
        torch.zeros(10),
        torch.randn(5000).abs() * 1e-20,
    ):
        low, high = x.amin().clamp(max=0).double(), x.amax().clamp(min=0).double()
        step = ((high - low) / (2**bits - 1)).float().clamp(min=torch.finfo(torch.float32).tiny * 2**10).double()
        zero = (-low / step).round().clamp(0, 2**bits - 1)
        codes = (x.double() / step).round() + zero
        own = x.clone().requires_grad_()
        y = asymmetric_range(own, bits)
        assert torch.equal(y, ((codes.clamp(0, 2**bits - 1) - zero) * step).float())
        y.sum().backward()
        assert torch.equal(own.grad, ((codes >= 0) & (codes <= 2**bits - 1)).float())


def test_octo_clips_then_rounds():
    torch.manual_seed(3)
    run, _ = started(Octo(error_format="INT4"), torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 8, 8))
    for x in (torch.randn(3000), torch.rand(3000) + 0.1, torch.randn(3000) - 3):
        for name in ("INT8", "INT4", "FP134"):
            quantizer = Clipped(name)
            clipped = range_clip(x, 0.95)
            assert torch.equal(run._backward(x, quantizer), quantizer(clipped, absmax(clipped)))


@pytest.mark.parametrize("method", [Octo, DistributionAdaptiveInt8, UnifiedInt8])
def test_errors_may_have_a_format_of_their_own(method):
    torch.manual_seed(4)
    x = torch.randn(4, 3, 8, 8)
    run, _ = started(method(error_format="INT4"), torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), x)
    quantizers = run.site(next(iter(run.layers.values())).site)
    for_weight, for_input = quantizers.error(torch.randn(4, 4, 6, 6))
    assert len(for_input.unique()) <= 15
    assert all(len(for_weight[:, c].unique()) <= 15 for c in range(4))
    assert len(quantizers.weight(torch.randn(1000)).unique()) > 15
    assert method(error_format="INT4").digest != method().digest


def test_no_search_is_the_largest_magnitude():
    torch.manual_seed(5)
    plain = UnifiedInt8(search="none", alpha=0, error_rounding="nearest")
    run, _ = started(plain, torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), torch.randn(4, 3, 8, 8))
    e = torch.randn(4, 4, 6, 6)
    e[0, 0, 0, 0] = 50
    found = run.site(next(iter(run.layers.values())).site).error(e)[0]
    assert torch.equal(found, Clipped("INT8")(e, absmax(e)))
    rates = {name: {"lr": 0.5} for name in ("0.weight",)}
    run.before_update(rates)
    assert rates["0.weight"]["lr"] == 0.5


@pytest.mark.parametrize("operation", ["conv2d", "conv_transpose2d", "linear", "matmul", "bmm", "broadcast matmul"])
def test_operands_of_the_backward_pass_take_their_places(operation):
    """Autograd computes from other operands what it computes where these are the only ones."""
    torch.manual_seed(6)
    functional = torch.nn.functional
    shapes = {
        "conv2d": ((2, 3, 8, 8), (4, 3, 3, 3), lambda x, w, b: functional.conv2d(x, w, b, padding=1)),
        "conv_transpose2d": (
            (2, 3, 8, 8),
            (3, 4, 3, 3),
            lambda x, w, b: functional.conv_transpose2d(x, w, b, stride=2),
        ),
        "linear": ((5, 7, 3), (4, 3), functional.linear),
        "matmul": ((5, 7, 3), (3, 4), lambda x, w, b: torch.matmul(x, w)),
        "bmm": ((5, 7, 3), (5, 3, 4), lambda x, w, b: torch.bmm(x, w)),
        "broadcast matmul": ((5, 2, 7, 3), (2, 3, 4), lambda x, w, b: torch.matmul(x, w)),
    }
    x_shape, w_shape, product = shapes[operation]
    for layout in (torch.contiguous_format, torch.channels_last) if len(x_shape) == 4 else (torch.contiguous_format,):
        x = torch.randn(x_shape).contiguous(memory_format=layout).requires_grad_()
        w = torch.randn(w_shape, requires_grad=True)
        bias = torch.randn(4, requires_grad=True) if operation in ("conv2d", "conv_transpose2d", "linear") else None
        # A new operand may lie in memory in another order.
        quantizers = Quantizers(operands=lambda x, w: ((2 * x.contiguous() + 1), (w - 3)))
        operands = Operands(x, w, bias, product, (0,), -1)
        y = compute(operands, Site("", operation, 0, None, (0,), -1), quantizers, True)
        assert torch.equal(y, product(x, w, bias))
        e = torch.randn(y.shape)
        y.backward(e, retain_graph=True)
        x2, w2 = (2 * x.detach() + 1).requires_grad_(), (w.detach() - 3).requires_grad_()
        product(x2, w2, bias.detach().requires_grad_() if bias is not None else None).backward(e)
        torch.testing.assert_close(x.grad, x2.grad)
        torch.testing.assert_close(w.grad, w2.grad)
        again = torch.autograd.grad(y, (x, w), e)
        torch.testing.assert_close(again[0], x2.grad)
