"""Every operand of every product is what exact fractions make of it, in blocks along the contraction; and the gradient
is that of products of such operands."""

import itertools
import math
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import formats
from formats import Rounding
from formats.recipes.value import Operand, Product, uniform
from predictor.effects import Effect
from predictor.flow.dataflow import DataFlow
from predictor.gradient.gradients import Gradients
from predictor.recipes.gradients import with_recipe
from predictor.recipes.placed import Placed
from predictor.recipes.products import RecipeAtSites, number_of
from predictor.recipes.transforms import signs, transformed
from predictor.scheme import scheme_of
from tests.formats.philox import philox_words
from tests.formats.reference import E2M1, E4M3, to_float32
from workloads import Workload
from workloads.digests import digest

torch.set_num_threads(1)

# Exact fractions. A group is the elements that share a scale; values are those of its elements.


def nearest(values, number):
    """The nearest of ascending magnitudes, a tie to the even index; the last beyond."""
    below = max(i for i, value in enumerate(values) if value <= number)
    if below == len(values) - 1:
        return values[below]
    middle = (values[below] + values[below + 1]) / 2
    return values[below + (number > middle or (number == middle and below % 2 == 1))]


def floor_log2(number):
    power = math.frexp(float(number))[1] - 1
    return power - (Fraction(2) ** power > number)


def signed(value, x):
    return math.copysign(to_float32(value), x)


def mx(group, _):
    """OCP MX with E2M1: X = floor(log2 max) - 2."""
    largest = max(abs(Fraction(x)) for x in group)
    scale = Fraction(2) ** max(floor_log2(largest) - 2, -127) if largest else Fraction(1)
    return [signed(nearest(E2M1, abs(Fraction(x)) / scale) * scale, x) for x in group]


def nvfp4(group, most):
    tensor = Fraction(to_float32(most / 2688)) if most else Fraction(1)
    scale = nearest(E4M3, max(abs(Fraction(x)) for x in group) / 6 / tensor) * tensor
    return [signed(nearest(E2M1, abs(Fraction(x)) / scale) * scale if scale else Fraction(0), x) for x in group]


def real(group, _):
    """E4M3 with s = max / 448 as a float32 number."""
    largest = max(abs(Fraction(x)) for x in group)
    scale = Fraction(to_float32(largest / 448)) if largest else Fraction(1)
    return [signed(nearest(E4M3, abs(Fraction(x)) / scale) * scale, x) for x in group]


def expected(t, groups, rule):
    """t with every group rounded by a rule. groups: of each index, whatever names its group."""
    members = defaultdict(list)
    for index in np.ndindex(*t.shape):
        members[groups(*index)].append(index)
    most, out = Fraction(t.abs().max().item()), torch.empty_like(t)
    for indices in members.values():
        for index, value in zip(indices, rule([t[i].item() for i in indices], most), strict=True):
            out[index] = value
    return out


# The calls of a network that are products, with the place of each element: (line, place along the contraction) for each
# product and operand, worked out by hand.

T, BATCH = 5, 3  # steps and examples: M = 15


def along(line, place):
    """Groups of runs of B."""
    return lambda size: lambda *i: (line(*i), place(*i) // size)


LINEAR = {  # x (BATCH, T, K), w (N, K), dy (BATCH, T, N)
    ("fprop", "x"): along(lambda b, t, k: (b, t), lambda b, t, k: k),
    ("fprop", "w"): along(lambda n, k: n, lambda n, k: k),
    ("dgrad", "dy"): along(lambda b, t, n: (b, t), lambda b, t, n: n),
    ("dgrad", "w"): along(lambda n, k: k, lambda n, k: n),
    ("wgrad", "dy"): along(lambda b, t, n: n, lambda b, t, n: b * T + t),
    ("wgrad", "x"): along(lambda b, t, k: k, lambda b, t, k: b * T + t),
}
SECOND = LINEAR | {  # x @ w with w (K, N), as in GPT-2's Conv1D
    ("fprop", "w"): along(lambda k, n: n, lambda k, n: k),
    ("dgrad", "w"): along(lambda k, n: k, lambda k, n: n),
}
ADDMM = SECOND | {
    ("fprop", "x"): along(lambda m, k: m, lambda m, k: k),
    ("dgrad", "dy"): along(lambda m, n: m, lambda m, n: n),
    ("wgrad", "dy"): along(lambda m, n: n, lambda m, n: m),
    ("wgrad", "x"): along(lambda m, k: k, lambda m, k: m),
}
FIRST = {  # w @ x with w (N, K), x (BATCH, K, T): M = (BATCH, T)
    ("fprop", "x"): along(lambda b, k, t: (b, t), lambda b, k, t: k),
    ("fprop", "w"): along(lambda n, k: n, lambda n, k: k),
    ("dgrad", "dy"): along(lambda b, n, t: (b, t), lambda b, n, t: n),
    ("dgrad", "w"): along(lambda n, k: k, lambda n, k: n),
    ("wgrad", "dy"): along(lambda b, n, t: n, lambda b, n, t: b * T + t),
    ("wgrad", "x"): along(lambda b, k, t: k, lambda b, k, t: b * T + t),
}
EXPERTS = {  # x (BATCH, T, K) @ w (BATCH, K, N): a product for each index of the first axis
    ("fprop", "x"): along(lambda b, t, k: (b, t), lambda b, t, k: k),
    ("fprop", "w"): along(lambda b, k, n: (b, n), lambda b, k, n: k),
    ("dgrad", "dy"): along(lambda b, t, n: (b, t), lambda b, t, n: n),
    ("dgrad", "w"): along(lambda b, k, n: (b, k), lambda b, k, n: n),
    ("wgrad", "dy"): along(lambda b, t, n: (b, n), lambda b, t, n: t),
    ("wgrad", "x"): along(lambda b, t, k: (b, k), lambda b, t, k: t),
}
HEADS = {  # einsum btk,hkd->bhtd: N = (h, d), M = (b, t)
    ("fprop", "x"): along(lambda b, t, k: (b, t), lambda b, t, k: k),
    ("fprop", "w"): along(lambda h, k, d: (h, d), lambda h, k, d: k),
    ("dgrad", "dy"): along(lambda b, h, t, d: (b, t), lambda b, h, t, d: h * 4 + d),
    ("dgrad", "w"): along(lambda h, k, d: k, lambda h, k, d: h * 4 + d),
    ("wgrad", "dy"): along(lambda b, h, t, d: (h, d), lambda b, h, t, d: b * T + t),
    ("wgrad", "x"): along(lambda b, t, k: k, lambda b, t, k: b * T + t),
}
CONV = {  # x (BATCH, C, 6, 5), w (O, C, 3, 2), dy (BATCH, O, 4, 4)
    ("fprop", "x"): along(lambda e, c, i, j: (e, i, j), lambda e, c, i, j: c),
    ("fprop", "w"): along(lambda o, c, i, j: (o, i, j), lambda o, c, i, j: c),
    ("dgrad", "dy"): along(lambda e, o, i, j: (e, i, j), lambda e, o, i, j: o),
    ("dgrad", "w"): along(lambda o, c, i, j: (c, i, j), lambda o, c, i, j: o),
    ("wgrad", "dy"): along(lambda e, o, i, j: o, lambda e, o, i, j: (e * 4 + i) * 4 + j),
    ("wgrad", "x"): along(lambda e, c, i, j: c, lambda e, c, i, j: (e * 6 + i) * 5 + j),
}
TRANSPOSED = {  # x (C, 4) without examples, w (C, O, 3), dy (O, 6)
    ("fprop", "x"): along(lambda c, i: i, lambda c, i: c),
    ("fprop", "w"): along(lambda c, o, i: (o, i), lambda c, o, i: c),
    ("dgrad", "dy"): along(lambda o, i: i, lambda o, i: o),
    ("dgrad", "w"): along(lambda c, o, i: (c, i), lambda c, o, i: o),
    ("wgrad", "dy"): along(lambda o, i: o, lambda o, i: i),
    ("wgrad", "x"): along(lambda c, i: c, lambda c, i: i),
}
K, N = 37, 21
CALLS = {
    "linear": (lambda x, w: F.linear(x, w), (BATCH, T, K), (N, K), LINEAR),
    "matmul": (lambda x, w: x @ w, (BATCH, T, K), (K, N), SECOND),
    "addmm": (lambda x, w: torch.addmm(torch.zeros(N), x, w), (15, K), (K, N), ADDMM),
    "weight first": (lambda x, w: w @ x, (BATCH, K, T), (N, K), FIRST),
    "experts": (lambda x, w: torch.bmm(x, w), (BATCH, T, K), (BATCH, K, N), EXPERTS),
    "heads": (lambda x, w: torch.einsum("btk,hkd->bhtd", x, w), (BATCH, T, K), (6, K, 4), HEADS),
    "convolution": (lambda x, w: F.conv2d(x, w), (BATCH, 19, 6, 5), (18, 19, 3, 2), CONV),
    "transposed": (lambda x, w: F.conv_transpose1d(x, w), (19, 4), (19, 18, 3), TRANSPOSED),
}
FORMATS = {"MXFP4": (mx, 32), "NVFP4": (nvfp4, 16), "E4M3/real/block5": (real, 5), "E4M3/real/row": (real, 1 << 30)}


class Calls(nn.Module):
    """One call with a weight."""

    def __init__(self, call, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) * torch.exp2(torch.randint(-6, 3, shape)))
        self.call = call

    def forward(self, x):
        return self.call(x, self.weight)


def operands_at(name, placed):
    """The tensors of a call, and what a recipe makes of them: by product and operand."""
    call, of_x, of_w, _ = CALLS[name]
    torch.manual_seed(len(name))
    model = Calls(call, of_w)
    x = torch.randn(of_x) * torch.exp2(torch.randint(-6, 3, of_x))
    x = x.requires_grad_()
    found, sites = {}, RecipeAtSites(placed)

    def see(site):
        quantizers = sites(site)
        found["quantizers"] = quantizers
        return quantizers

    with DataFlow(model) as flow:
        flow.site, flow.pointed = see, False
        y = model(x)
        e = torch.randn_like(y) * torch.exp2(torch.randint(-6, 3, y.shape))
        q, w = found["quantizers"], model.weight.detach()
        raw = x.detach(), w
        with torch.no_grad():
            made = {("fprop", "x"): q.input(raw[0]), ("fprop", "w"): q.weight(w)}
        q.input(x)
        q.weight(model.weight)
        made["wgrad", "x"], made["dgrad", "w"] = (made["fprop", "x"], made["fprop", "w"])
        if q.operands is not None:
            made["wgrad", "x"], made["dgrad", "w"] = q.operands(*raw)
        made["wgrad", "dy"], made["dgrad", "dy"] = q.error(e)
    given = {operand: raw[operand == "w"] for operand in ("x", "w")} | {"dy": e}
    return given, made


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *((name, "MXFP4") for name in CALLS),
        *(("linear", name) for name in FORMATS if name != "MXFP4"),
        ("experts", "NVFP4"),
        ("convolution", "E4M3/real/block5"),
        ("heads", "E4M3/real/row"),
        ("transposed", "NVFP4"),
    ],
)
def test_each_operand_in_blocks_along_its_contraction(name, format):
    rule, size = FORMATS[format]
    given, made = operands_at(name, Placed(uniform(formats.get(format))))
    for (product, operand), groups in CALLS[name][3].items():
        want = expected(given[operand], groups(size), rule)
        assert torch.equal(made[product, operand], want), (product, operand)
        assert torch.equal(torch.signbit(made[product, operand]), torch.signbit(want))


def tiles(rows, columns, size):
    return lambda *i: (rows(*i) // size, columns(*i) // size)


def test_tiles_and_tensors_serve_both_products():
    """W in 16 x 16 tiles has the same values in fprop and dgrad, as a tensor scale gives x in fprop and wgrad."""
    recipe = formats.recipe("mine", x="E4M3/real", w="NVFP4/tile16x16", dy="E4M3/real/tile4x4")
    given, made = operands_at("matmul", Placed(recipe))
    want = expected(given["w"], tiles(lambda k, n: n, lambda k, n: k, 16), nvfp4)
    assert torch.equal(made["fprop", "w"], want)
    assert torch.equal(made["dgrad", "w"], want)
    want = expected(given["x"], lambda *_: 0, real)
    assert torch.equal(made["fprop", "x"], want)
    assert torch.equal(made["wgrad", "x"], want)
    want = expected(given["dy"], tiles(lambda b, t, n: b * T + t, lambda b, t, n: n, 4), real)
    assert torch.equal(made["dgrad", "dy"], want)
    assert torch.equal(made["wgrad", "dy"], want)
    # Of a convolution: for each place of the kernel.
    given, made = operands_at("convolution", Placed(recipe))
    want = expected(given["w"], lambda o, c, i, j: (i, j, o // 16, c // 16), nvfp4)
    assert torch.equal(made["fprop", "w"], want)
    assert torch.equal(made["dgrad", "w"], want)


def test_products_alone_leave_the_others_as_they_are():
    given, made = operands_at("linear", Placed(formats.recipe("mxfp4"), products=frozenset({Product.DGRAD})))
    for key, tensor in made.items():
        changed = key[0] == "dgrad"
        assert torch.equal(tensor, given[key[1]]) != changed, key


def test_stochastic_operands_are_those_of_their_own_random_numbers():
    recipe = formats.recipe("mine", base="mxfp4", wgrad={"rounding": {"dy": "stochastic"}})
    given, made = operands_at("linear", Placed(recipe))
    # (M, N) as rows of N along M, row by row.
    lines = given["dy"].reshape(BATCH * T, N).T.contiguous()
    stream = number_of(":linear wgrad dy 0")
    want = formats.get("MXFP4").round(lines, rounding=Rounding.STOCHASTIC, seed=0, stream=stream)
    assert torch.equal(made["wgrad", "dy"], want.T.reshape(BATCH, T, N))
    # To the definition: one element, by its own word.
    word = philox_words(0, stream, lines.numel())
    for index in range(0, lines.numel(), 7):
        row = [v.item() for v in lines[index // 15]]
        scale = Fraction(2) ** (floor_log2(max(abs(Fraction(v)) for v in row)) - 2)
        x = abs(Fraction(row[index % 15])) / scale
        low = max(v for v in E2M1 if v <= min(x, 6))
        high = next((v for v in E2M1 if v > low), low)
        up = high > low and word[index] < (x - low) * 2**32 // (high - low)
        assert abs(want.flatten()[index].item()) == float((high if up else low) * scale)
    # All others are to nearest; another seed draws others.
    plain = operands_at("linear", Placed(formats.recipe("mxfp4")))[1]
    for key, tensor in made.items():
        assert torch.equal(tensor, plain[key]) == (key != ("wgrad", "dy"))


def test_hadamard_transforms_are_orthogonal_and_known():
    length, seed = 8, 5
    own = signs(length, seed)
    assert set(own.tolist()) <= {-1.0, 1.0}
    h = np.array([[1]])
    while len(h) < length:
        h = np.block([[h, h], [h, -h]])
    lines = torch.randint(-64, 64, (3, 24)).float()
    # Whole numbers: every sum is exact, and so is the product with the root in float64 rounded once.
    sums = (lines.double().reshape(3, 3, 8) * own.double()) @ torch.from_numpy(h).double().T
    want = sums.float().reshape(3, 24) * np.float32(1 / math.sqrt(8))
    assert torch.equal(transformed(lines, length, seed), want)
    for columns in (1, 2, 7, 8, 13, 24, 31):
        a, b = torch.randn(4, columns), torch.randn(6, columns)
        there = transformed(a, 16, 3), transformed(b, 16, 3)
        assert torch.allclose(there[0] @ there[1].T, a @ b.T, atol=1e-5)
        assert torch.allclose(transformed(there[0], 16, 3, inverse=True), a, atol=1e-6)
    # A short run is transformed in pieces: of 13, 8 and 4 and 1.
    line = torch.zeros(1, 13)
    line[0, 9] = 1
    assert transformed(line, 16, 3).abs().tolist()[0] == pytest.approx([0] * 8 + [0.5] * 4 + [0], abs=1e-7)


def test_what_is_transformed_is_rounded_there():
    recipe = formats.recipe("mine", base="nvfp4-1d", wgrad={"hadamard": 16})
    given, made = operands_at("linear", Placed(recipe))
    for operand, width in (("x", K), ("dy", N)):
        lines = given[operand].reshape(BATCH * T, width).T.contiguous()
        there = transformed(lines, 16, 0)
        rounded = expected(there, lambda row, m: (row, m // 16), nvfp4)
        want = transformed(rounded, 16, 0, inverse=True).T.reshape(BATCH, T, width)
        assert torch.equal(made["wgrad", operand], want)
        assert not torch.equal(made["wgrad", operand], given[operand])


# A network.


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(20, 24), nn.GELU(), nn.Linear(24, 18, bias=False), nn.Tanh(), nn.Linear(18, 5))


def of_network(model=None, batches=2):
    torch.manual_seed(1)
    data = [(torch.randn(40, 20), torch.randint(0, 5, (40,))) for _ in range(batches)]
    return Workload("net", network() if model is None else model, data, lambda m, b: F.cross_entropy(m(b[0]), b[1]))


def by_hand(workload, batch, rounded):
    """The gradients of the weights of `network`, each product computed from operands that `rounded` makes."""
    first, _, second, _, head = workload.model
    x, target = batch
    h = F.linear(rounded(x, "fprop", "x", 1), rounded(first.weight, "fprop", "w", 1), first.bias).detach()
    h.requires_grad_()
    a = F.gelu(h)
    s = F.linear(rounded(a, "fprop", "x", 1), rounded(second.weight, "fprop", "w", 1)).detach().requires_grad_()
    t = torch.tanh(s)
    loss = F.cross_entropy(head(t), target)
    e, of_head = torch.autograd.grad(loss, (s, head.weight))
    of_second = rounded(e, "wgrad", "dy", 0).T @ rounded(a, "wgrad", "x", 0)
    back = rounded(e, "dgrad", "dy", 1) @ rounded(second.weight, "dgrad", "w", 0)
    (e,) = torch.autograd.grad(a, h, back)
    return [rounded(e, "wgrad", "dy", 0).T @ rounded(x, "wgrad", "x", 0), of_second, of_head], loss


@pytest.mark.parametrize("name", ["mxfp8", "fp8-tensor", "nvfp4-2d", "bf16", "fp8-row-hp", "lee-fp134"])
def test_the_gradient_is_that_of_the_products_of_such_operands(name):
    workload, recipe = of_network(), formats.recipe(name)

    def rounded(t, product, operand, axis):
        """Along an axis of a matrix."""
        of = recipe.of(Product(product))
        format = (of.first if operand in ("dy", "x") and (product, operand) != ("wgrad", "x") else of.second).format
        t = t.detach()
        if "tile" in format.name:
            return format.round(t)
        return format.round(t if axis else t.T.contiguous()) if axis else format.round(t.T.contiguous()).T

    batch = workload.minibatches()[0]
    with Gradients(workload, batch) as gradients:
        assert [site.name for site in gradients.products] == ["0:linear", "2:linear", "4:linear"]
        found, sites = with_recipe(gradients, Placed(recipe))
        want, loss = by_hand(workload, batch, rounded)
        assert list(sites.changed) == ["0:linear", "2:linear"]
        assert gradients.names == ["0.weight", "2.weight", "4.weight"]
        for own, hand in zip(found.gradients, want, strict=True):
            assert torch.allclose(own, hand, rtol=1e-5, atol=1e-7)
        assert found.loss == pytest.approx(loss.item() - gradients.loss.item(), abs=1e-6)
        # With the head it is another; full precision is torch's own.
        other = with_recipe(gradients, Placed(recipe, head=True))[0].gradients
        assert not torch.equal(other[2], found.gradients[2])
        none = with_recipe(gradients, Placed(recipe, only=frozenset()))[0].gradients
        assert all(map(torch.equal, none, gradients.full))
    assert all(p.grad is None for p in workload.model.parameters())


def test_draws_differ_and_repeat():
    workload, recipe = of_network(), formats.recipe("nvfp4")
    seen = []
    for batch in workload.minibatches():
        with Gradients(workload, batch) as gradients:
            seen += [with_recipe(gradients, Placed(recipe, draw=draw))[0].gradients[0] for draw in (0, 1, 0)]
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[3], seen[5])
    assert not torch.equal(seen[0], seen[1])
    # And a mini-batch has numbers of its own.
    assert len({number_of(f"0 0 {digest(batch)}") for batch in workload.minibatches()}) == 2


def test_frozen_and_tied_weights():
    model = network()
    model[2].weight.requires_grad_(False)
    workload = of_network(model)
    with Gradients(workload, workload.minibatches()[0]) as gradients:
        assert gradients.names == ["0.weight", "4.weight"]
        everything = with_recipe(gradients, Placed(formats.recipe("mxfp4")))[0]
        # What the frozen layer hands on is rounded all the same.
        assert not torch.equal(everything.gradients[0], gradients.full[0])
        alone = with_recipe(gradients, Placed(formats.recipe("mxfp4"), only=frozenset({"2:linear"})))[0]
        assert not torch.equal(alone.gradients[0], gradients.full[0])

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(11, 16)
            self.inner = nn.Linear(16, 16)
            self.head = nn.Linear(16, 11, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(torch.tanh(self.inner(self.embedding(x))))

    torch.manual_seed(0)
    tokens = torch.randint(0, 11, (6, 8))

    def loss(model, batch):
        return F.cross_entropy(model(batch).flatten(0, 1), batch.flatten())

    with Gradients(Workload("tied", Tied(), [tokens], loss), tokens) as gradients:
        assert [site.name for site in gradients.products] == ["inner:linear", "head:linear"]
        _, sites = with_recipe(gradients, Placed(formats.recipe("mxfp4")))
        assert list(sites.changed) == ["inner:linear"]


def test_attention_and_recurrent_layers_have_their_projections():
    torch.manual_seed(0)

    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.lstm = nn.LSTM(16, 8, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.lstm(self.attention(x, x, x, need_weights=False)[0])[0])

    batch = torch.randn(4, 5, 16)
    workload = Workload("both", Attends(), [batch], lambda m, b: m(b).square().mean())
    with Gradients(workload, batch) as gradients:
        names = ["attention:linear", "attention:linear#1", "lstm:linear", "lstm:linear#1"]
        assert list(dict.fromkeys(site.name for site in gradients.products)) == [*names, "head:linear"]
        found, sites = with_recipe(gradients, Placed(formats.recipe("nvfp4-2d-sr")))
        assert list(sites.changed) == names
        for name, own, full in zip(gradients.names, found.gradients, gradients.full, strict=True):
            assert not torch.equal(own, full), name


def test_what_is_computed_again_draws_the_same_numbers():
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self, again):
            super().__init__()
            self.net, self.again = network(), again

        def forward(self, x):
            if not self.again:
                return self.net(x)
            return self.net[3:](checkpoint(self.net[:3], x, use_reentrant=False))

    recipe = formats.recipe("mine", base="mxfp4", fprop={"rounding": "stochastic"}, dgrad={"rounding": "stochastic"})
    found = []
    for again in (False, True):
        torch.manual_seed(1)
        batch = torch.randn(40, 20)
        workload = Workload("again", Checkpointed(again), [batch], lambda m, b: m(b).square().mean())
        with Gradients(workload, batch) as gradients:
            placed = Placed(recipe, only=frozenset({"net.0:linear", "net.2:linear"}))
            found.append(with_recipe(gradients, placed)[0].gradients)
    for plain, again in itertools.islice(zip(*found, strict=True), 3):
        assert torch.equal(plain, again)


def test_what_lies_between_is_rounded_where_a_recipe_says_so():
    workload = of_network()
    with Gradients(workload, workload.minibatches()[0]) as gradients:
        plain = with_recipe(gradients, Placed(formats.recipe("mxfp8")))[0].gradients
        between = formats.recipe("mine", base="mxfp8", elsewhere="bfloat16")
        other = with_recipe(gradients, Placed(between))[0].gradients
        assert not torch.equal(plain[0], other[0])
        assert torch.allclose(plain[0], other[0], rtol=0.3, atol=1e-2)
        # With float32 operands nothing else is rounded: what points round in one term, by the current scale.
        alone = with_recipe(gradients, Placed(formats.recipe("mine", elsewhere="bfloat16")))[0].gradients
        # Nothing is left behind.
        assert torch.equal(with_recipe(gradients, Placed(formats.recipe("mxfp8")))[0].gradients[0], plain[0])
    scheme = scheme_of("current", two_terms=False)
    with Gradients(workload, workload.minibatches()[0], scheme=scheme) as gradients:
        (at_points,) = gradients.quantized(formats.get("bfloat16"), (Effect.AE,))
        assert all(torch.equal(one, two) for one, two in zip(alone, at_points.gradients, strict=True))
        assert not torch.equal(alone[0], gradients.full[0])


def test_a_network_without_products_is_refused():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))

        def forward(self, x):
            return x * self.weight

    batch = torch.randn(2, 3, 4)
    workload = Workload("adds", Adds(), [batch], lambda m, b: m(b).square().mean())
    with (
        Gradients(workload, batch) as gradients,
        pytest.raises(ValueError, match="workload adds: no product of its network has a weight"),
    ):
        with_recipe(gradients, Placed(formats.recipe("mxfp8")))


def test_views_cover_every_operand():
    for name in CALLS:
        assert {(Product(product), Operand(operand)) for product, operand in CALLS[name][3]} == {
            (product, operand)
            for product, operand in itertools.product(Product, Operand)
            if {"fprop": "dy", "dgrad": "x", "wgrad": "w"}[product] != operand
        }


@pytest.mark.parametrize("name", ["mxfp8", "fp8-tensor", "nvfp4"])
def test_a_graph_that_is_not_kept_changes_no_bit(name):
    """Of convolutions and of linear layers, of the gradients themselves too."""
    torch.manual_seed(0)
    convolves = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 6), nn.Tanh(), nn.Linear(6, 5))
    images = [(torch.randn(4, 3, 5, 5), torch.randint(0, 5, (4,)))]
    of_images = Workload("images", convolves, images, lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    for workload in (of_network(), of_images):
        batch, found = workload.minibatches()[0], []
        for kept in (True, False):
            with Gradients(workload, batch, kept=kept) as gradients:
                assert gradients.loss.requires_grad == kept
                own = torch.autograd.grad(workload.loss(workload.model, batch), gradients._measured)
                for expected_full, full in zip(own, gradients.full, strict=True):
                    assert torch.equal(expected_full, full)
                for _ in range(2):
                    quantized, _ = with_recipe(gradients, Placed(formats.recipe(name)))
                    found.append((quantized.loss, *quantized.gradients))
        for loss, *others in found[1:]:
            assert loss == found[0][0]
            assert all(torch.equal(one, other) for one, other in zip(found[0][1:], others, strict=True))
