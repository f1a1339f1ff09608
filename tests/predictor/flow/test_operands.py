"""Which factor of a product is its weight, and which of its axes are channels, for all operations that multiply."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from predictor.flow.dataflow import DataFlow
from predictor.flow.sites import Quantizers


class One(nn.Module):
    """One product, with one parameter in it."""

    def __init__(self, shape, product):
        super().__init__()
        torch.manual_seed(0)
        self.w, self.product = nn.Parameter(torch.randn(*shape)), product

    def forward(self, x):
        return self.product(x, self.w)


def first_moved(x, w):
    h = torch.zeros(3, 5)
    return h.addmm_(x, w)


# Shape of the parameter, shape of the input, the product, the weight's output axes, the product's channel axis.
PRODUCTS = {
    "linear": ((5, 4), (3, 4), lambda x, w: F.linear(x, w, torch.ones(5)), (0,), -1),
    "linear of a transposed parameter": ((4, 5), (3, 4), lambda x, w: F.linear(x, w.T), (0,), -1),
    "linear of part of a parameter": ((9, 4), (3, 4), lambda x, w: F.linear(x, w[2:7]), (0,), -1),
    "matmul": ((4, 5), (2, 3, 4), lambda x, w: x @ w, (1,), -1),
    "matmul, weight first": ((5, 4), (4, 3), lambda x, w: w @ x, (0,), -2),
    "matmul of a vector, weight first": ((5, 4), (4,), lambda x, w: torch.matmul(w, x), (0,), -1),
    "mv": ((5, 4), (4,), lambda x, w: torch.mv(w, x), (0,), -1),
    "torch.linalg.matmul": ((4, 5), (2, 3, 4), lambda x, w: torch.linalg.matmul(x, w), (1,), -1),
    "mm with names": ((4, 5), (3, 4), lambda x, w: torch.mm(input=x, mat2=w), (1,), -1),
    "inner": ((5, 4), (3, 4), lambda x, w: torch.inner(x, w), (0,), -1),
    "inner, weight first": ((5, 4), (3, 4), lambda x, w: torch.inner(w, x), (0,), -2),
    "bmm": ((2, 4, 5), (2, 3, 4), lambda x, w: x.bmm(w), (0, 2), -1),
    "addmm": ((4, 5), (3, 4), lambda x, w: torch.addmm(torch.ones(5), x, w, beta=2), (1,), -1),
    "addmm, weight first": ((5, 4), (4, 3), lambda x, w: torch.addmm(torch.ones(5, 3), w, x), (0,), -2),
    "addmm in place": ((4, 5), (3, 4), first_moved, (1,), -1),
    "addmv": ((5, 4), (4,), lambda x, w: torch.addmv(torch.ones(5), w, x), (0,), -1),
    "baddbmm": ((2, 4, 5), (2, 3, 4), lambda x, w: torch.baddbmm(torch.ones(1), x, w), (0, 2), -1),
    "addbmm": ((2, 4, 5), (2, 3, 4), lambda x, w: torch.addbmm(torch.ones(5), x, w), (2,), -1),
    "einsum": ((4, 5), (3, 4), lambda x, w: torch.einsum("bi,ij->bj", x, w), (1,), -1),
    "einsum, weight first": ((5, 4), (3, 4), lambda x, w: torch.einsum("oi,bi->ob", w, x), (0,), -2),
    "einsum without a result": ((4, 5), (3, 4), lambda x, w: torch.einsum("bi,ij", x, w), (1,), -1),
    "einsum with an ellipsis": ((4, 5), (2, 3, 4), lambda x, w: torch.einsum("...i,ij->...j", x, w), (1,), -1),
    "einsum with heads": ((4, 2, 5), (3, 4), lambda x, w: torch.einsum("bi,ihd->bhd", x, w), (1, 2), -1),
    "einsum of experts": ((2, 4, 5), (2, 3, 4), lambda x, w: torch.einsum("eci,eio->eco", x, w), (0, 2), -1),
    "tensordot": ((4, 5), (3, 4), lambda x, w: torch.tensordot(x, w, 1), (1,), -1),
    "tensordot of chosen axes": ((5, 4), (3, 4), lambda x, w: torch.tensordot(x, w, ([1], [1])), (0,), -1),
    "conv1d": ((5, 4, 2), (3, 4, 6), lambda x, w: F.conv1d(x, w), (0,), -2),
    "conv1d of one element": ((5, 4, 2), (4, 6), lambda x, w: F.conv1d(x, w), (0,), -2),
    "conv_transpose2d": ((4, 5, 2, 2), (3, 4, 6, 6), lambda x, w: F.conv_transpose2d(x, w), (1,), -3),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_every_kind(name):
    """The weight is found and quantized, and what is done to one of its channels is seen in the product's channel."""
    shape, given, product, output_axes, channel_axis = PRODUCTS[name]
    model, x = One(shape, product), torch.randn(*given, generator=torch.Generator().manual_seed(1))
    found = []
    flow = DataFlow(model)

    def see(site):
        found.append(site)
        return Quantizers(weight=lambda w: channels(w) * w)

    def channels(w):
        axis = output_axes[-1]
        return torch.arange(2.0, 7.0).reshape([-1 if d == axis else 1 for d in range(w.ndim)])

    flow.site = see
    with flow:
        y = model(x)
    (site,) = found
    assert site.origin.parameters == ("w",)
    assert (site.output_axes, site.channel_axis) == (output_axes, channel_axis)
    # What is added stays.
    zero = product(torch.zeros_like(x), model.w)
    factors = torch.arange(2.0, 7.0).reshape([5, *[1] * (-channel_axis - 1)])
    torch.testing.assert_close(y, zero + factors * (product(x, model.w) - zero))


@pytest.mark.parametrize("name", PRODUCTS)
def test_gradients_of_every_kind_are_torchs(name):
    shape, given, product, _, _ = PRODUCTS[name]
    model, x = One(shape, product), torch.randn(*given, generator=torch.Generator().manual_seed(1))
    flow, inputs = DataFlow(model), [x.clone().requires_grad_(), model.w]
    flow.site = lambda _: Quantizers(operands=lambda a, b: (a.clone(), b.clone()), error=lambda e: (e, e.clone()))
    with flow:
        found = flow.gradients(model(inputs[0]).square().sum(), inputs)
    expected = torch.autograd.grad(product(*inputs).square().sum(), inputs)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_is_added_is_no_bias_where_it_depends_on_the_input():
    model = One((4, 4), lambda x, w: torch.addmm(2 * x, x, w))
    flow, x = DataFlow(model), torch.randn(3, 4).requires_grad_()
    flow.site = lambda _: Quantizers(bias_gradient=lambda g: 0 * g)
    with flow:
        (found,) = flow.gradients(model(x).sum(), [x])
    torch.testing.assert_close(found, 2 + model.w.detach().sum(1).expand(3, 4))


@pytest.mark.parametrize(
    "product",
    [
        lambda x, w: torch.einsum("bi,ij,bj->b", x, w, x),
        lambda x, w: F.bilinear(x, x, w[None]),
        lambda x, w: torch.linalg.multi_dot([x, w, w]),
        lambda x, w: F.linear(x, w[0]),
    ],
    ids=["three factors", "bilinear", "a chain", "a vector"],
)
def test_other_products_are_no_sites(product):
    model, seen = One((4, 4), product), []
    flow = DataFlow(model)
    flow.site = seen.append
    with flow:
        y = model(x := torch.randn(3, 4))
    assert seen == []
    torch.testing.assert_close(y, product(x, model.w))
