"""Situations of networks: what a mode cannot see, sharing, late layers, references, containers, number types."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from benchmarks.flow.pieces import Of, Product, Swish, scripted, weight
from benchmarks.situation.listing import (
    LISTED,
    REFUSED,
    RIGHT,
    WRONG,
    Outcome,
    compared,
    cross_entropy,
    listed,
    refusal,
    refused,
    right_or_refused,
    same_gradient,
    situation,
)
from predictor import measure
from predictor.flow.dataflow import DataFlow
from training import train
from training.calibration import AdaRound, quantize
from training.methods import LSQ, METHODS, LSQPlus
from workloads import Workload

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])
QUIET = {"adaround": None, "equalize": False, "absorb": "off", "rank_layers": False, "minibatches": 1}


def net(middle: Any, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    first = nn.Linear(8, 8)
    made = middle() if isinstance(middle, type) or (callable(middle) and not isinstance(middle, nn.Module)) else middle
    return nn.Sequential(first, made, nn.Linear(8, 3)).eval()


def classified(model: nn.Module, name: str = "situation") -> Workload:
    return Workload(name, model, [(X, Y)], cross_entropy, train=[(X, Y)])


# 1, 5: masked rows.


def _masked(mask: Tensor, layers: int = 1) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        s = x.view(-1, 1, 2, 4)
        for p in m.p:
            q = p(s)
            s = F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
        return s.flatten(1)

    return Of(forward, p=nn.ModuleList(nn.Linear(4, 4) for _ in range(layers)))


DEAD = torch.tensor([[True, False], [False, False]])


@situation("rows masked out entirely, by truth values")
def _(folder: Path) -> Outcome:
    return same_gradient(net(lambda: _masked(DEAD)), X)


@situation("rows masked out entirely, by numbers, in two layers")
def _(folder: Path) -> Outcome:
    mask = torch.zeros(2, 2).masked_fill(~DEAD, -float("inf"))
    return same_gradient(net(lambda: _masked(mask, 2)), X)


@situation("a padded sample, without weights of attention")
def _(folder: Path) -> Outcome:
    pad = torch.zeros(6, 2, dtype=torch.bool)
    pad[1] = True

    def forward(m: Any, x: Tensor) -> Tensor:
        s = x.view(-1, 2, 4)
        return m.a(s, s, s, key_padding_mask=pad, need_weights=False)[0].flatten(1)

    return same_gradient(net(lambda: Of(forward, a=nn.MultiheadAttention(4, 2, batch_first=True))), X)


@situation("a left-padded batch of a decoder")
def _(folder: Path) -> Outcome:
    def forward(m: Any, x: Tensor) -> Tensor:
        q = m.p(x.view(-1, 1, 4, 2))
        causal = torch.ones(4, 4, dtype=torch.bool).tril()
        there = torch.tensor([[False, False, True, True]] * 2 + [[True] * 4] * 4)
        return F.scaled_dot_product_attention(q, q, q, attn_mask=causal & there[:, None, None]).flatten(1)

    return same_gradient(net(lambda: Of(forward, p=nn.Linear(2, 2))), X)


# 2, 3: weights that are computed, and shared.


def _distinct(how: Any, ada: bool) -> Outcome:
    torch.manual_seed(0)
    model = nn.Sequential(how(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3)).eval()
    options = {**QUIET, "adaround": AdaRound(iterations=20) if ada else None}

    def do() -> Outcome:
        found = quantize(classified(model), "INT2", "float32", **options)
        layer = found.model.get_submodule("0")
        values = layer.weight.detach().unique().numel()
        return compared("at most 3 values at INT2", f"{values} values; kept: {found.kept}", values <= 3)

    return right_or_refused(do, "0|weight|parametriz")


for _name, _how in {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "the old weight_norm": nn.utils.weight_norm,
}.items():
    for _ada in (False, True):
        situation(f"quantize INT2 of {_name}" + (", by AdaRound" if _ada else ""))(
            lambda folder, how=_how, ada=_ada: _distinct(how, ada)
        )


@situation("LSQ of a layer with weight_norm")
def _(folder: Path) -> Outcome:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3))
    return _covers(model, LSQ(), {"0", "2"})


@situation("one Parameter in two layers, equalized")
def _(folder: Path) -> Outcome:
    torch.manual_seed(0)
    a, b = nn.Linear(8, 8), nn.Linear(8, 8)
    b.weight = a.weight
    with torch.no_grad():
        a.weight.mul_(torch.logspace(-2, 2, 8)[:, None])
    model = nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), nn.Linear(8, 3)).eval()
    steps = quantize(classified(model), "float32", "float32", adaround=None, rank_layers=False, minibatches=1).steps
    losses = [step.loss for step in steps]
    return compared(f"loss {losses[0]:.6g} after every step", losses, max(losses) - min(losses) < 1e-4 * losses[0])


class Tied(nn.Module):
    """Words, a layer, and a head that is the words'."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.a, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.a(self.embed(x))).mean(1))


WORDS = torch.randint(0, 9, (6, 4), generator=torch.Generator().manual_seed(0))


@situation("a tied head, exported and loaded")
def _(folder: Path) -> Outcome:
    from training.export import codes
    from training.methods import quantized

    work = Workload("tied", Tied(), [(WORDS, Y)], cross_entropy, train=[(WORDS, Y)])
    method = LSQ(edge_bits=4) if "edge_bits" in LSQ.__dataclass_fields__ else LSQ()

    def do() -> Outcome:
        found = train(work, method=method, epochs=1, start="pretrained", rate=0.01)
        with quantized(found.model, found.method_state), torch.no_grad():
            expected = found.model.eval()(WORDS)
        codes.export(folder / "t.safetensors", found.model, found.method_state)
        with torch.no_grad():
            apart = (codes.load(folder / "t.safetensors", Tied())(WORDS) - expected).abs().max().item()
        return compared("the outputs of evaluation", f"{apart:.1e} apart", apart < 1e-4)

    return right_or_refused(do, "head|embed")


@situation("a tied head, equalized")
def _(folder: Path) -> Outcome:
    work = Workload("tied", Tied(), [(WORDS, Y)], cross_entropy, train=[(WORDS, Y)])

    def do() -> Outcome:
        steps = quantize(work, "float32", "float32", adaround=None, rank_layers=False, minibatches=1).steps
        losses = [step.loss for step in steps]
        return compared(f"loss {losses[0]:.6g}", losses, max(losses) - min(losses) < 1e-4 * losses[0])

    return right_or_refused(do, "head|embed")


# 1: products that are no `linear`.


def _covers(model: nn.Module, method: Any, layers: set[str]) -> Outcome:
    """A method quantizes these layers, or says by name that it leaves them."""
    try:
        found = train(classified(model.train()), method=method, epochs=1, start="pretrained", rate=0.001)
    except ValueError as error:
        return refused(error, ".*".join(sorted(layers)[:1]))
    text = " / ".join(found.coverage)
    if f"{len(layers)} products with 100% of the multiply-accumulates" in text:
        return Outcome(f"quantizes {sorted(layers)}", text, RIGHT)
    named = "float32" in text and any(layer in text for layer in layers)
    return Outcome(f"quantizes or names {sorted(layers)}", text, LISTED if named else WRONG)


def _products() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            transposed=Of(lambda m, x: F.linear(x, m.weight.T), weight=weight(8, 8)),
            addmm=Of(lambda m, x: torch.addmm(m.bias, x, m.weight), weight=weight(8, 8), bias=weight(8)),
            einsum=Of(lambda m, x: torch.einsum("bi,oi->bo", x, m.weight), weight=weight(8, 8)),
            sliced=Of(lambda m, x: F.linear(x, m.weight[:8]), weight=weight(9, 8)),
            head=nn.Linear(8, 3),
        )
    )


for _method in METHODS:
    situation(f"products as transposed, addmm, einsum and sliced weights, by {_method}")(
        lambda folder, name=_method: _covers(
            _products(), METHODS[name](), {"transposed", "addmm", "einsum", "sliced", "head"}
        )
    )


@situation("products as transposed, addmm, einsum and sliced weights have points")
def _(folder: Path) -> Outcome:
    return listed(_products(), X, {"linear", "addmm", "einsum"})


@situation("an autograd function, listed")
def _(folder: Path) -> Outcome:
    return listed(net(lambda: Of(lambda m, x: Swish.apply(x))), X, {"mul", "sigmoid"})


@situation("a product as an autograd function, listed")
def _(folder: Path) -> Outcome:
    return listed(net(lambda: Of(lambda m, x: Product.apply(x, m.w), w=weight(8, 8))), X, {"mm"})


@situation("a scripted function, listed")
def _(folder: Path) -> Outcome:
    return listed(net(lambda: Of(lambda m, x: scripted(x))), X, {"sin", "add"})


@situation("vmap, listed")
def _(folder: Path) -> Outcome:
    return listed(net(lambda: Of(lambda m, x: torch.func.vmap(torch.tanh)(x))), X, {"tanh"})


@situation("a part without gradient, listed")
def _(folder: Path) -> Outcome:
    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = x.exp().mean()
        return x * scale

    return listed(net(lambda: Of(forward)), X, {"exp", "mean"})


@situation("frozen layers round their activations")
def _(folder: Path) -> Outcome:
    model = net(lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU()).requires_grad_(False))
    return listed(model, X, {"linear", "gelu"})


@situation("a weight that is computed by gains")
def _(folder: Path) -> Outcome:
    model = net(lambda: Of(lambda m, x: F.linear(x, m.w * m.gain), w=weight(8, 8), gain=weight(1)))
    return same_gradient(model, X)


# 4: layers that the first pass does not reach.


class Dropped(nn.Module):
    """In training, one of two layers is left out by turns."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.z, self.passes = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        x = self.a(x) if not self.training or self.passes % 2 else x
        return self.z(self.b(x) if not self.training or not self.passes % 2 else x)


@situation("layers that the first pass leaves out, by LSQ")
def _(folder: Path) -> Outcome:
    model = Dropped()
    work = Workload("dropped", model, [(X, Y)] * 4, cross_entropy, train=[(X, Y)] * 4)

    def do() -> Outcome:
        found = train(work, method=LSQ(), epochs=1, start="pretrained", rate=0.001)
        layers = sorted(entry.layer for entry in found.method_state.exported())
        return compared(["a", "b", "z"], layers, layers == ["a", "b", "z"])

    return right_or_refused(do, "layer")


# 5: references.


class Derived(nn.Module):
    """A network whose loss holds its derivative."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(1, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))


def pinn(model: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    y = model(x)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return (slope + y).square().mean()


def forces(model: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return (slope - 1).square().mean()


POINTS = torch.linspace(-1, 1, 6)[:, None]


@situation("a loss with a derivative (PINN)")
def _(folder: Path) -> Outcome:
    return right_or_refused(lambda: same_gradient(Derived(), POINTS, pinn), "derivative|differs")


@situation("a loss of forces alone")
def _(folder: Path) -> Outcome:
    return right_or_refused(lambda: same_gradient(Derived(), POINTS, forces), "derivative|differs")


@situation("cross-entropy with a penalty on its gradient")
def _(folder: Path) -> Outcome:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0].detach().clone().requires_grad_()
        value = F.cross_entropy(model(x), batch[1])
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        return value + slope.square().sum()

    return right_or_refused(lambda: same_gradient(net(nn.Tanh), (X, Y), loss), "derivative|differs")


@situation("LSQ of a loss with a derivative")
def _(folder: Path) -> Outcome:
    work = Workload("pinn", Derived(), [POINTS], pinn, train=[POINTS])

    def do() -> Outcome:
        train(work, method=LSQ(), epochs=1, start="pretrained", rate=0.01)
        return compared("trained or refused", "trained", True)

    return right_or_refused(do, "derivative|gradient")


for _reentrant in (True, False):
    for _place in ("in the middle", "at the front"):

        def _checkpointed(folder: Path, reentrant: bool = _reentrant, place: str = _place) -> Outcome:
            torch.manual_seed(0)
            part = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
            block = Of(lambda m, x: checkpoint(m.part, x, use_reentrant=reentrant), part=part)
            parts = [block, nn.Linear(8, 3)] if place == "at the front" else [nn.Linear(8, 8), block, nn.Linear(8, 3)]
            return same_gradient(nn.Sequential(*parts), X.clone().requires_grad_(place == "at the front"))

        situation(f"checkpointing, {'' if _reentrant else 'not '}reentrant, {_place}")(_checkpointed)


@situation("checkpointing in training with methods: the numbers of no checkpointing")
def _(folder: Path) -> Outcome:
    def losses(checkpointed: bool, name: str) -> list[float]:
        torch.manual_seed(0)
        part = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))

        def forward(m: Any, x: Tensor) -> Tensor:
            return checkpoint(m.part, x, use_reentrant=False) if checkpointed else m.part(x)

        model = nn.Sequential(nn.Linear(8, 8), Of(forward, part=part), nn.Linear(8, 3))
        work = Workload("net", model, [(X, Y)] * 3, cross_entropy, train=[(X, Y)] * 3)
        found = train(work, method=METHODS[name](), epochs=1, start="pretrained", rate=0.01)
        return found.steps.loss.tolist()

    names = [name for name in ("lsq", "lsqplus", "dai8", "ui8") if name in METHODS]
    pairs = {name: (losses(False, name), losses(True, name)) for name in names}
    return compared("equal losses", {name: b for name, (a, b) in pairs.items()}, all(a == b for a, b in pairs.values()))


@situation("a forward pass that draws from numpy")
def _(folder: Path) -> Outcome:
    drawn = net(lambda: Of(lambda m, x: x + torch.from_numpy(np.random.randn(8).astype(np.float32))))  # noqa: NPY002
    angle = measure(classified(drawn), ["FP134"], ["A"]).angle.max()
    return compared("an angle of rounding, below 10 degrees", f"{angle:.3f}", angle < 10)


@situation("a buffer that counts calls")
def _(folder: Path) -> Outcome:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.count += 1
        return x * (1 + m.count)

    counted = Of(forward)
    counted.register_buffer("count", torch.zeros(()))
    model = net(lambda: counted)
    angle = measure(classified(model), ["FP134"], ["A"]).angle.max()
    return compared("count 0 afterwards, an angle below 10", f"{counted.count.item()}, {angle:.3f}", counted.count == 0)


@situation("a network that sees nothing of its batch")
def _(folder: Path) -> Outcome:
    model = net(lambda: Of(lambda m, x: torch.ones(6, 8)))
    model[0].requires_grad_(False)
    return refusal(lambda: measure(classified(model), ["FP134"]), "does not depend on the mini-batch|nothing")


# 7: containers.


@dataclass
class Held:
    """A data class."""

    x: Tensor


CONTAINERS: dict[str, Any] = {
    "dict": lambda x: {"x": x},
    "OrderedDict": lambda x: OrderedDict(x=x),
    "UserDict": lambda x: UserDict(x=x),
    "defaultdict": lambda x: defaultdict(list, x=x),
    "mappingproxy": lambda x: MappingProxyType({"x": x}),
    "data class": Held,
    "namespace": lambda x: SimpleNamespace(x=x),
}


def _taken(held: Any) -> Tensor:
    return held.x if isinstance(held, Held | SimpleNamespace) else held["x"]


def _angles(kind: Any) -> list[float]:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    model = Of(lambda m, given: kind(m.body(_taken(given))), body=body)
    loss = lambda m, b: F.cross_entropy(_taken(m(kind(b[0]))), b[1])  # noqa: E731
    return measure(Workload("held", model, [(X, Y)], loss), ["FP134"]).angle.tolist()


for _kind, _made in CONTAINERS.items():

    def _contained(folder: Path, kind: Any = _made) -> Outcome:
        expected, found = _angles(CONTAINERS["dict"]), _angles(kind)
        return compared([f"{a:.4f}" for a in expected], [f"{a:.4f}" for a in found], expected == found)

    situation(f"input and output in a {_kind}")(_contained)


# 8, 9: number types.


@situation("complex weights")
def _(folder: Path) -> Outcome:
    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * m.w, n=8)

    return same_gradient(net(lambda: Of(forward, w=weight(1, 5, complex_numbers=True))), X)


@situation("complex activations of real weights, listed")
def _(folder: Path) -> Outcome:
    model = net(lambda: Of(lambda m, x: torch.view_as_real((torch.complex(x, x) * (1 + 2j)).exp()).sum(-1)))
    return listed(model, X, {"mul", "exp"})


@situation("sparse gradients of an embedding")
def _(folder: Path) -> Outcome:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(32, 3))
    torch.manual_seed(0)
    sparse = nn.Sequential(nn.Embedding(9, 8, sparse=True), nn.Flatten(), nn.Linear(32, 3))
    expected, found = (
        measure(Workload("w", model, [(WORDS, Y)], cross_entropy), ["FP134"]).angle.tolist()
        for model in (dense, sparse)
    )
    return compared(expected, found, expected == found)


def _typed(dtype: torch.dtype, auto: torch.dtype | None, what: str) -> Outcome:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(m: Any, x: Tensor) -> Tensor:
        if auto is None:
            return m.body(x)
        with torch.autocast("cpu", auto):
            return m.body(x)

    model = Of(forward, body=body).to(dtype)
    loss = lambda m, b: F.cross_entropy(m(b[0]).float(), b[1])  # noqa: E731
    batch = (X.to(dtype), Y)
    work = Workload("typed", model, [batch], loss, train=[batch])

    def do() -> Outcome:
        if what == "measure":
            angles = measure(work, ["FP134"], ["E", "A", "AE"]).angle
            return compared("angles from 0.01 to 10", angles.round(3).tolist(), bool(angles.between(0.01, 10).all()))
        if what == "quantize":
            losses = [step.loss for step in quantize(work, "INT8", "INT8", **QUIET).steps]
        else:
            method = LSQ() if what == "LSQ" else None
            losses = train(work, epochs=2, start="pretrained", rate=0.01, method=method).steps.loss.tolist()
        expected = F.cross_entropy(body.float()(X.to(dtype).float()), Y).item()
        return compared(f"losses near {expected:.4f}", losses, all(abs(v - expected) < 0.3 for v in losses))

    return right_or_refused(do, "float|fx|trace|autocast")


for _dtype, _auto in (
    *((torch.bfloat16, None), (torch.float16, None), (torch.float64, None)),
    *((torch.float32, torch.bfloat16), (torch.float32, torch.float16)),
):
    for _what in ("measure", "train", "LSQ", "quantize"):
        _title = str(_dtype if _auto is None else _auto).removeprefix("torch.") + ("" if _auto is None else " autocast")
        situation(f"{_title}: {_what}")(lambda folder, d=_dtype, a=_auto, w=_what: _typed(d, a, w))


# 14, 15, 27: what stands around a network.


def _with_parts(kind: str) -> Outcome:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.criterion, self.classes = nn.Linear(8, 8), nn.Linear(8, 3), nn.CrossEntropyLoss(), 3
            self.register_buffer("class_weight", torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x)))

        def compute_loss(self, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(self(x), y)

    losses = {
        "criterion": lambda m, b: m.criterion(m(b[0]), b[1]),
        "attribute": lambda m, b: F.cross_entropy(m(b[0]).view(-1, m.classes), b[1]),
        "buffer": lambda m, b: F.cross_entropy(m(b[0]), b[1], m.class_weight),
        "method": lambda m, b: m.compute_loss(*b),
    }
    model = Parts()
    expected = F.cross_entropy(model(X), Y).item()

    def do() -> Outcome:
        steps = quantize(Workload(kind, model, [(X, Y)], losses[kind]), "float32", "float32", **QUIET).steps
        return compared(f"{expected:.6f}", [step.loss for step in steps], abs(steps[-1].loss - expected) < 1e-5)

    return right_or_refused(do, kind if kind != "buffer" else "class_weight")


for _part in ("criterion", "attribute", "buffer", "method"):
    situation(f"a loss that uses the network's {_part}, in quantize")(lambda folder, kind=_part: _with_parts(kind))


@situation("hooks on the root, in quantize")
def _(folder: Path) -> Outcome:
    model = net(nn.ReLU)
    model.register_forward_pre_hook(lambda m, args: (args[0] / 10 - 0.5,))
    model.register_forward_hook(lambda m, args, y: y * 0.01)
    with torch.no_grad():
        expected = F.cross_entropy(model(X), Y).item()

    def do() -> Outcome:
        steps = quantize(classified(model), "float32", "float32", **QUIET).steps
        return compared(f"{expected:.6f} after each", [s.loss for s in steps], abs(steps[-1].loss - expected) < 1e-5)

    return right_or_refused(do, "hook")


def _border(kind: str, folder: Path) -> Outcome:
    from training.export import codes
    from training.methods import quantized

    def make() -> nn.Module:
        torch.manual_seed(0)
        inner = {
            "behind an activation": lambda: Of(lambda m, x: F.linear(F.gelu(x), m.weight), weight=weight(8, 8)),
            "before an activation": lambda: Of(lambda m, x: F.linear(x, m.weight).relu(), weight=weight(8, 8)),
            "of a second argument": lambda: Of(lambda m, x: m.f(x), f=Second()),
            "by forward()": lambda: Of(lambda m, x: m.inner.forward(F.gelu(x)), inner=nn.Linear(8, 8)),
            "by input=": lambda: Of(lambda m, x: m.inner(input=F.gelu(x)), inner=nn.Linear(8, 8)),
        }[kind]
        return net(inner)

    def do() -> Outcome:
        found = train(classified(make()), method=LSQPlus(), epochs=1, start="pretrained", rate=0.01)
        with quantized(found.model, found.method_state), torch.no_grad():
            expected = found.model.eval()(X)
        place = folder / "border.safetensors"
        codes.export(place, found.model, found.method_state)
        with torch.no_grad():
            apart = (codes.load(place, make())(X) - expected).abs().max().item()
        return compared("the outputs of evaluation", f"{apart:.1e} apart", apart < 1e-4)

    return right_or_refused(do, "layer|product|1|differ")


class Second(nn.Module):
    """The product reads the second argument."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x * 100, F.gelu(x))

    def both(self, s: Tensor, x: Tensor) -> Tensor:
        return s + self.l(x)


for _border_kind in (
    *("behind an activation", "before an activation", "of a second argument", "by forward()", "by input="),
):
    situation(f"a product {_border_kind}, exported and loaded")(lambda folder, kind=_border_kind: _border(kind, folder))


@situation("AdaRound on mini-batches of several lengths")
def _(folder: Path) -> Outcome:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    batches = [(torch.randn(6, 2, length), Y) for length in (8, 10)]
    work = Workload("lengths", model, batches, cross_entropy)

    def do() -> Outcome:
        steps = quantize(work, "INT4", "float32", adaround=AdaRound(iterations=20), rank_layers=False).steps
        return compared("a loss", steps[-1].loss, steps[-1].loss < 10)

    return right_or_refused(do, "reads rows of|shape|length")


# The rest of what a forward pass can be.


@situation("a compiled part of a network")
def _(folder: Path) -> Outcome:
    plain = net(lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU()))
    compiled = net(lambda: torch.compile(nn.Sequential(nn.Linear(8, 8), nn.GELU())))
    expected, found = (measure(classified(model), ["FP134"]).angle.tolist() for model in (plain, compiled))
    return compared(expected, found, expected == found)


for _error in (AssertionError(), ZeroDivisionError("by zero"), NotImplementedError("this branch"), KeyError("mode")):

    def _failing(folder: Path, error: Exception = _error) -> Outcome:
        def forward(m: Any, x: Tensor) -> Tensor:
            raise error

        return refusal(lambda: measure(classified(net(lambda: Of(forward))), ["FP134"]), "in layer 1")

    situation(f"a forward pass that raises {type(_error).__name__}")(_failing)


for _kind_, _layer in {
    "on the meta device": lambda: nn.Linear(8, 8, device="meta"),
    "with lazy layers": lambda: nn.LazyLinear(8),
}.items():
    situation(f"a network {_kind_}")(
        lambda folder, layer=_layer: refusal(lambda: measure(classified(net(layer)), ["FP134"]), r"1\.weight")
    )


@situation("vmap around a whole network")
def _(folder: Path) -> Outcome:
    inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    model = net(lambda: Of(lambda m, x: torch.func.vmap(m.inner)(x), inner=inner))
    outcome = listed(model, X, {"tanh"})
    flow = DataFlow(model)
    with flow:
        model(X)
    return outcome if outcome.verdict != LISTED or flow.points else Outcome(outcome.expected, "no point", REFUSED)
