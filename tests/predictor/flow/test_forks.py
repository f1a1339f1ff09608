"""Errors of branches, each rounded by itself, in exact arithmetic: small whole numbers, which float32 holds, against
fractions (docs/definitions/training.md section 1)."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import formats
from predictor.flow.dataflow import DataFlow
from predictor.gradient.quantizers import error_quantizer
from predictor.scheme import CURRENT, Scheme
from tests.formats.reference import Reference

FORMAT = formats.get("INT4")
ONE_TERM = Scheme("current", 0, 0, two_terms=False)
GENERATOR = np.random.default_rng(0)
X, T = (GENERATOR.integers(-9, 10, (4, 3)) for _ in range(2))
A, B, C = (GENERATOR.integers(-5, 6, (4, 4)) for _ in range(3))


def exact(x):
    return np.vectorize(Fraction)(np.asarray(x, object))


def q(e):
    """Rounded to nearest by definition, at the scale of its own largest magnitude."""
    largest = max(abs(v) for v in e.reshape(-1))
    grid = Reference(FORMAT.profile, int(np.floor(np.log2(float(largest)))) if largest else 0)
    return np.vectorize(lambda v: Fraction(grid.round(float(v))))(e)


class Net(nn.Module):
    """Columns are examples."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.tensor(m, dtype=torch.float32)) for m in (A, B, C))
        self.compute = forward

    def forward(self, x):
        return self.compute(self, x)


def gradients(forward, branches=True, loss=None, scheme=ONE_TERM):
    """The weight gradients with errors rounded, as fractions; zero for those that have none."""
    model, targets = Net(forward), torch.tensor(T, dtype=torch.float32)
    with DataFlow(model) as flow:
        flow.branches = branches
        output = model(torch.tensor(X, dtype=torch.float32))
        total = (output * targets).sum() if loss is None else loss(output, targets)
        flow.error = error_quantizer(FORMAT, scheme)
        found = flow.gradients(total, [model.a, model.b, model.c])
    return [exact(np.zeros((4, 4), int) if g is None else g.numpy().astype(int)) for g in found]


def same(found, *wanted):
    for g, w in zip(found, wanted, strict=False):
        assert np.array_equal(g, w), (g, w)


x, t, a, b, c = (exact(m) for m in (X, T, A, B, C))
relu = np.vectorize(lambda v: max(v, Fraction(0)))


def test_the_sum_at_a_fork_behind_a_point_is_not_rounded():
    """A residual block: the fork is the output of a ReLU, which has no point; the point before it gets the sum."""

    def block(self, x):
        h = (self.a @ x).relu()
        return self.b @ h + h

    h, mask = relu(a @ x), np.where(a @ x > 0, 1, 0)
    last = q(t)
    at_b = q(last)
    total = mask * (q(b.T @ at_b) + q(last))
    same(gradients(block), total @ x.T, at_b @ h.T)
    # Otherwise it is rounded, and the branches are not.
    same(gradients(block, branches=False), q(mask * (b.T @ at_b + last)) @ x.T, at_b @ h.T)
    assert not np.array_equal(gradients(block)[0], gradients(block, branches=False)[0])


def test_a_point_that_forks_three_ways():
    def net(self, x):
        h = self.a @ x
        return self.b @ h + self.c @ h + h

    # The two additions are points; the first one's error is rounded again, to the same values.
    last = q(t)
    same(
        gradients(net),
        (q(b.T @ q(last)) + q(c.T @ q(last)) + q(last)) @ x.T,
        q(last) @ (a @ x).T,
        q(last) @ (a @ x).T,
    )


def test_forks_inside_forks():
    """The branch with a ReLU forks again, with no point between: its sum is an error of the outer fork's branch."""

    def net(self, x):
        h = self.a @ x
        inner = h.relu()
        return self.b @ inner + self.c @ inner + h

    mask, last = np.where(a @ x > 0, 1, 0), q(t)
    inner = mask * (q(b.T @ q(last)) + q(c.T @ q(last)))
    same(gradients(net), (q(inner) + q(last)) @ x.T)


def test_both_factors_of_a_square_are_branches():
    def net(self, x):
        h = self.a @ x
        return self.b @ (h * h)

    h, at_square = a @ x, q(b.T @ q(t))
    same(gradients(net), 2 * q(at_square * h) @ x.T)


def test_what_is_given_out_and_used_is_a_branch_and_a_last_error():
    """Two terms for the branch that the loss sees, one for the other."""

    def net(self, x):
        h = self.a @ x
        return h, self.b @ h

    def loss(output, targets):
        return (output[0] * targets).sum() + (output[1] * targets).sum()

    twice = q(t) + q(t - q(t))
    same(gradients(net, loss=loss, scheme=CURRENT), (twice + q(b.T @ twice)) @ x.T, twice @ (a @ x).T)
    # The same tensor twice: two branches.
    same(gradients(lambda self, x: [self.a @ x] * 2, loss=lambda o, t: loss(o, t), scheme=CURRENT), (2 * twice) @ x.T)


def test_parts_that_are_cut_out_one_by_one_are_branches_and_those_of_a_split_are_not():
    def cut(self, x):
        h = self.a @ x
        return torch.cat([3 * h[:2].relu(), h[2:]])

    def split(self, x):
        first, second = (self.a @ x).chunk(2)
        return torch.cat([3 * first.relu(), second])

    mask = np.where(a @ x > 0, 1, 0)[:2]
    # Both the product by 3 and h are last points; of the latter only the branch that the output is reached by.
    upper = np.concatenate([q(mask * 3 * q(t[:2])), np.zeros((2, 3), int)])
    lower = np.concatenate([np.zeros((2, 3), int), q(t[2:])])
    same(gradients(cut), (upper + lower) @ x.T)
    same(gradients(split), q(np.concatenate([mask * 3 * q(t[:2]), t[2:]])) @ x.T)


def test_parameters_that_are_used_twice_do_not_fork():
    """A weight that is made of a parameter twice, and a shared one: their gradients are none of the data flow."""

    def net(self, x):
        return (self.a + self.a) @ (self.b @ x) + self.b @ x

    first, last = b @ x, q(t)
    same(
        gradients(net),
        2 * q(last) @ first.T,
        (q((2 * a).T @ q(last)) + q(last)) @ x.T,
    )


@pytest.mark.parametrize("how", ["in place", "checkpoint", "reentrant"])
def test_other_ways_to_write_a_block(how):
    def plain(self, x):
        h = (self.a @ x).relu()
        return self.b @ h + h

    def other(self, x):
        if how == "in place":
            h = self.a @ x
            h.relu_()
            y = self.b @ h
            y += h
            return y
        h = (self.a @ x).relu()
        return checkpoint(lambda h: self.b @ h + h, h, use_reentrant=how == "reentrant")

    same(gradients(other), *gradients(plain))


def test_an_exact_layer_rounds_no_branch():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            h = self.first(x)
            return self.second(h) + h

    torch.manual_seed(0)
    model, of_branches = Block(), {"first:linear/1", "first:linear/2"}
    for exact_layers, branches in (((), of_branches), (["first"], set())):
        seen = []
        with DataFlow(model, exact_layers) as flow:
            flow.branches = True
            output = model(torch.randn(3, 8))
            flow.error = lambda e, point, seen=seen: (seen.append(point.name), e)[1]
            flow.gradients(output.sum(), list(model.parameters()))
        assert sorted(seen) == sorted({":add", "second:linear"} | branches)


def test_branches_have_the_same_names_every_time_and_one_graph_serves_many_passes():
    def net(self, x):
        h = (self.a @ x).relu()
        y = self.b @ h + h
        return self.c @ y + y.relu()

    model, names, targets = Net(net), [], torch.tensor(T, dtype=torch.float32)
    for _ in range(2):
        with DataFlow(model) as flow:
            flow.branches = True
            total = (model(torch.tensor(X, dtype=torch.float32)) * targets).sum()
            found = []
            for name in ("INT4", None, "INT6", "INT4"):
                quantizer = error_quantizer(formats.get(name), ONE_TERM) if name else None
                seen = set()
                flow.error = None if name is None else lambda e, p, q=quantizer, s=seen: (s.add(p.name), q(e, p))[1]
                found.append(flow.gradients(total, [model.a], keep=True)[0])
                names.append(frozenset(seen))
        assert torch.equal(found[0], found[3])
        assert not torch.equal(found[0], found[2])
        plain = model(torch.tensor(X, dtype=torch.float32))
        assert torch.equal(found[1], torch.autograd.grad((plain * targets).sum(), model.a)[0])
    assert set(names) == {
        frozenset(),
        frozenset((":add#1", ":matmul#1", ":matmul#2", ":matmul/1", ":matmul/2", ":add/1", ":add/2")),
    }


def test_an_evaluation_has_no_branches():
    model = Net(lambda self, x: self.a @ x + x)
    with DataFlow(model) as flow, torch.no_grad():
        flow.branches, flow.evaluation = True, True
        assert not model(torch.tensor(X, dtype=torch.float32)).requires_grad
