"""Pieces of random networks: modules from (B, 8) to (B, 8), each of which does one of the things that networks do."""

from __future__ import annotations

import random
import warnings
from collections import OrderedDict, UserDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, rnn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

WIDTH = 8
Make = Callable[[random.Random], nn.Module]


class Of(nn.Module):
    """A function of a module's own parts and its input."""

    def __init__(self, function: Callable[..., Any], **parts: Any):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def weight(*shape: int, complex_numbers: bool = False) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, dtype=torch.complex64 if complex_numbers else None) * 0.4)


def linear(bias: bool = True) -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH, bias)


class Swish(torch.autograd.Function):
    """A function of one's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, e: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return e * (s + x * s * (1 - s))


class Product(torch.autograd.Function):
    """A product of one's own, of both operands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.T

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, e: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return e @ w, e.T @ x


def _scripted(x: Tensor) -> Tensor:
    return torch.sin(x * 3) + x


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scripted = torch.jit.script(_scripted)
    traced = torch.jit.trace(_scripted, torch.zeros(2, WIDTH))


class Pair(NamedTuple):
    """A named tuple of a network's own."""

    first: Tensor
    second: Any


@dataclass(frozen=True)
class Held:
    """A data class of a network's own."""

    value: Tensor
    name: str = "held"


def steps(x: Tensor) -> Tensor:
    """(B, 8) as sequences (B, 2, 4)."""
    return x.view(-1, 2, 4)


def image(x: Tensor) -> Tensor:
    """(B, 8) as images (B, 2, 2, 2)."""
    return x.reshape(-1, 2, 2, 2)


def flat(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)[:, :WIDTH]


# Products.


def products(r: random.Random) -> nn.Module:
    return r.choice(
        [
            lambda: linear(r.random() < 0.5),
            lambda: Of(lambda m, x: torch.einsum("bi,oi->bo", x, m.w), w=weight(8, 8)),
            lambda: Of(lambda m, x: x @ m.w, w=weight(8, 8)),
            lambda: Of(lambda m, x: x @ m.w[:, ::2].repeat(1, 2), w=weight(8, 8)),
            lambda: Of(lambda m, x: torch.addmm(m.b, x, m.w.t()), w=weight(8, 8), b=weight(8)),
            lambda: Of(lambda m, x: torch.baddbmm(m.b, x[None], m.w[None])[0], w=weight(8, 8), b=weight(1, 1, 8)),
            lambda: Of(lambda m, x: torch.bmm(steps(x), m.w.expand(len(x), 4, 4)).flatten(1), w=weight(1, 4, 4)),
            lambda: Of(lambda m, x: torch.mv(m.w, x.mean(0)) + x, w=weight(8, 8)),
            lambda: Of(lambda m, x: torch.tensordot(x, m.w, dims=([1], [0])), w=weight(8, 8)),
            lambda: Of(lambda m, x: F.linear(x, m.w * m.gain), w=weight(8, 8), gain=weight(1)),
            lambda: Of(lambda m, x: F.bilinear(x, x, m.w), w=weight(8, 8, 8)),
            lambda: Of(lambda m, x: torch.outer(x[0], m.w)[: len(x)] + x, w=weight(8)),
            lambda: Of(lambda m, x: torch.matmul(x, m.w.transpose(0, 1)).add(1, alpha=0.5), w=weight(8, 8)),
            lambda: Of(lambda m, x: torch.linalg.multi_dot([x, m.w, m.w.T]), w=weight(8, 8)),
            lambda: Of(lambda m, x: torch.kron(x, m.w)[:, :8], w=weight(1, 2)),
            lambda: parametrizations.weight_norm(linear()),
            lambda: parametrizations.orthogonal(linear()),
            lambda: parametrizations.spectral_norm(linear()).eval(),
        ]
    )()


def convolutions(r: random.Random) -> nn.Module:
    return r.choice(
        [
            lambda: Of(lambda m, x: flat(m.c(x[:, None])), c=nn.Conv1d(1, 2, 3, padding=1)),
            lambda: Of(lambda m, x: flat(m.c(x[:, None])), c=nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")),
            lambda: Of(lambda m, x: flat(m.c(image(x))), c=nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False)),
            lambda: Of(lambda m, x: flat(m.c(image(x))), c=nn.Conv2d(2, 8, 2, padding="same", dilation=1)),
            lambda: Of(lambda m, x: flat(m.c(image(x))), c=nn.ConvTranspose2d(2, 2, 2, stride=2)),
            lambda: Of(lambda m, x: flat(m.c(x.view(-1, 1, 2, 2, 2))), c=nn.Conv3d(1, 2, 2, padding=1)),
            lambda: Of(lambda m, x: flat(m.c(image(x).to(memory_format=torch.channels_last))), c=nn.Conv2d(2, 8, 1)),
            lambda: Of(lambda m, x: flat(F.avg_pool1d(m.c(x[:, None]), 2)).repeat(1, 2), c=nn.Conv1d(1, 1, 1)),
            lambda: Of(lambda m, x: flat(F.max_pool2d(m.c(image(x)), 2)), c=nn.Conv2d(2, 8, 3, padding=1)),
            lambda: Of(lambda m, x: flat(F.unfold(image(x), 2) @ m.w).repeat(1, 8)[:, :8] + x, w=weight(1, 4)),
            lambda: Of(lambda m, x: flat(F.interpolate(m.c(image(x)), scale_factor=2)), c=nn.Conv2d(2, 2, 1)),
            lambda: Of(
                lambda m, x: flat(F.interpolate(m.c(image(x)), size=(3, 3), mode="bilinear", antialias=True)),
                c=nn.Conv2d(2, 2, 1),
            ),
            lambda: Of(lambda m, x: flat(F.pixel_shuffle(m.c(image(x)), 2)), c=nn.Conv2d(2, 4, 1)),
            lambda: Of(lambda m, x: flat(F.adaptive_avg_pool2d(m.c(image(x)), 1)), c=nn.Conv2d(2, 8, 1)),
        ]
    )()


# Attention and recurrence.


def attention(r: random.Random) -> nn.Module:
    boolean = torch.tensor([[True, False], [True, True]])
    dead = torch.tensor([[False, False], [True, True]])
    masks: list[Any] = [None, boolean, dead, torch.zeros(2, 2).masked_fill(~boolean, -float("inf")), torch.randn(2, 2)]
    mask, heads, weights = r.choice(masks), r.choice([1, 2]), r.random() < 0.5

    def multi(m: Any, x: Tensor) -> Tensor:
        s = steps(x)
        given = mask if mask is None or mask.dtype != torch.bool else (boolean.logical_not() if weights else ~mask)
        return m.a(s, s, s, need_weights=weights, attn_mask=given)[0].flatten(1)

    def fused(m: Any, x: Tensor) -> Tensor:
        q = m.p(steps(x))
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask).flatten(1)

    def grouped(m: Any, x: Tensor) -> Tensor:
        q = m.p(steps(x)).view(-1, 2, 2, 2).transpose(1, 2)
        k = q[:, :1]
        return F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True).flatten(1)

    def by_hand(m: Any, x: Tensor) -> Tensor:
        q, k, v = m.p(steps(x)).chunk(3, -1)
        scores = q @ k.transpose(-2, -1) / 2
        scores = scores if mask is None or mask is dead else scores + torch.zeros(2, 2).masked_fill(~boolean, -1e9)
        return (scores.softmax(-1) @ v).flatten(1)

    return r.choice(
        [
            lambda: Of(multi, a=nn.MultiheadAttention(4, heads, batch_first=True)),
            lambda: Of(fused, p=nn.Linear(4, 4)),
            lambda: Of(grouped, p=nn.Linear(4, 4)),
            lambda: Of(by_hand, p=nn.Linear(4, 12)),
            lambda: Of(
                lambda m, x: m.e(steps(x)).flatten(1), e=nn.TransformerEncoderLayer(4, heads, 8, 0.0, batch_first=True)
            ),
        ]
    )()


def recurrence(r: random.Random) -> nn.Module:
    kind, layers, both = r.choice([nn.LSTM, nn.GRU, nn.RNN]), r.choice([1, 2]), r.random() < 0.5
    size = 2 if both else 4

    def packed(m: Any, x: Tensor) -> Tensor:
        s = steps(x)
        lengths = torch.tensor([2] * (len(s) - 1) + [1])
        out, _ = m.r(rnn.pack_padded_sequence(s, lengths, batch_first=True))
        return rnn.pad_packed_sequence(out, batch_first=True)[0].flatten(1)

    def cells(m: Any, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 4)
        for step in steps(x).unbind(1):
            h = m.c(step, h)
        return torch.cat([h, h], 1)

    made = {"num_layers": layers, "bidirectional": both, "batch_first": True}
    return r.choice(
        [
            lambda: Of(lambda m, x: m.r(steps(x))[0].flatten(1), r=kind(4, size, **made)),
            lambda: Of(packed, r=kind(4, size, **made)),
            lambda: Of(cells, c=nn.GRUCell(4, 4)),
        ]
    )()


# What is between products.


def norms(r: random.Random) -> nn.Module:
    return r.choice(
        [
            lambda: nn.LayerNorm(WIDTH),
            lambda: nn.BatchNorm1d(WIDTH),
            lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False),
            lambda: nn.GroupNorm(2, WIDTH),
            lambda: nn.RMSNorm(WIDTH),
            lambda: Of(lambda m, x: m.n(image(x)).flatten(1), n=nn.InstanceNorm2d(2, affine=True)),
            lambda: Of(lambda m, x: F.normalize(x, dim=1) * 3),
            lambda: Of(lambda m, x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 0.1).sqrt()),
            lambda: Of(lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3) * m.g, g=weight(8)),
            lambda: Of(lambda m, x: F.local_response_norm(x[:, None], 2)[:, 0]),
        ]
    )()


ACTIVATIONS: list[Callable[[Tensor], Tensor]] = [
    *(F.relu, F.gelu, F.silu, F.mish, F.elu, F.selu, F.hardswish, F.softplus, F.leaky_relu, F.relu6, F.hardtanh),
    *(torch.tanh, torch.sigmoid, F.logsigmoid, F.softsign, torch.sin, torch.erf, torch.exp, torch.abs, torch.square),
    *(lambda x: F.softmax(x, -1), lambda x: F.log_softmax(x, 1), lambda x: x.softmax(1) + x, torch.neg, torch.atan),
    *(lambda x: 1 / (2 + x.abs()), lambda x: 2 - x, lambda x: x**3, lambda x: x / 4, lambda x: 2 * x, lambda x: x % 2),
    *(lambda x: torch.where(x > 0, x, x.expm1()), lambda x: torch.lerp(x, x * x, 0.3), lambda x: x.clamp(-1, 1) + x),
    *(lambda x: torch.addcmul(x, x, x, value=0.1), lambda x: torch.logaddexp(x, -x), lambda x: x.cumsum(1) / 3),
    *(lambda x: F.glu(torch.cat([x, x], 1)), lambda x: x.sort(1).values, lambda x: x - x.logsumexp(1, keepdim=True)),
    *(lambda x: x.cumprod(1).tanh(), lambda x: torch.hypot(x, x + 1), lambda x: x.std(1, keepdim=True) + x),
    *(lambda x: x.floor() + x, lambda x: x.round() * 0.1 + x, lambda x: torch.maximum(x, x.flip(1))),
    *(lambda x: F.dropout(x, 0.5, False), lambda x: F.dropout(x, 0.5, True), lambda x: x + torch.randn_like(x)),
    *(lambda x: torch.nan_to_num(x), lambda x: x.topk(8, 1).values, lambda x: torch.roll(x, 1, 1) + x),
]


def activations(r: random.Random) -> nn.Module:
    function = r.choice(ACTIVATIONS)
    return Of(lambda m, x: function(x))


def _add_at(m: Any, x: Tensor) -> Tensor:
    return x.index_add(1, torch.tensor([0, 0, 3]), x[:, :3])


def _scatter(m: Any, x: Tensor) -> Tensor:
    return torch.zeros_like(x).scatter_add(1, torch.tensor([[0, 1, 1, 2, 5, 5, 7, 7]]).expand(len(x), 8), x) + x


def _embedded(m: Any, x: Tensor) -> Tensor:
    return m.e(x.detach().argmax(1)) + x


def choosing(r: random.Random) -> nn.Module:
    sparse = r.random() < 0.3
    return r.choice(
        [
            lambda: Of(lambda m, x: x[:, torch.tensor([3, 1, 2, 0, 7, 6, 5, 4])] * m.w, w=weight(8)),
            lambda: Of(lambda m, x: x.gather(1, torch.zeros(len(x), 8, dtype=torch.long)) + x),
            lambda: Of(_add_at),
            lambda: Of(_scatter),
            lambda: Of(_embedded, e=nn.Embedding(8, 8, sparse=sparse)),
            lambda: Of(lambda m, x: m.e((x > 0).long()) + x, e=nn.EmbeddingBag(2, 8, mode="sum")),
            lambda: Of(lambda m, x: x.masked_fill(x > 1, 0.5) + torch.masked_select(x, x > 0).sum() / 9),
            lambda: Of(lambda m, x: x[x[:, 0].argsort()] - x),
            lambda: Of(lambda m, x: torch.stack(x.unbind(1)[::-1], 1) * 0.7),
            lambda: Of(lambda m, x: torch.cat(x.chunk(2, 1)[::-1], 1).exp().log1p()),
            lambda: Of(lambda m, x: x.as_strided((len(x), 8), (8, 1)) * 1.5),
            lambda: Of(lambda m, x: torch.diag_embed(x).sum(1) + x.T.contiguous().T),
            lambda: Of(lambda m, x: x.scatter_reduce(1, torch.zeros(len(x), 8, dtype=torch.long), x, "mean")),
        ]
    )()


# In place and views.


def _slices(m: Any, x: Tensor) -> Tensor:
    y = x * 1.0
    y[:, :4] += x[:, 4:]
    y[:, 0] = y[:, 1] * 2.5
    return y


def _through_a_view(m: Any, x: Tensor) -> Tensor:
    y = m.l(x)
    left, right = y.view(-1, 2, 4).unbind(1)
    return torch.cat([left.exp().tanh(), right], 1)


def _view_written(m: Any, x: Tensor) -> Tensor:
    y = m.l(x)
    y[:, 2:5].mul_(0.3).add_(x[:, 2:5])
    return y


def _into_zeros(m: Any, x: Tensor) -> Tensor:
    y = torch.zeros(len(x), 8)
    y[:, ::2] = m.l(x)[:, ::2]
    y[1:].sub_(0.1)
    return y.copy_(y + x)


def _chain(m: Any, x: Tensor) -> Tensor:
    return m.l(x).relu_().mul_(0.7).add_(1).div_(3).clamp_(max=2).tanh_().neg()


def _masked(m: Any, x: Tensor) -> Tensor:
    y = m.l(x)
    y[y > 0.5] = 0.25
    y.masked_fill_(y < -1, -0.3).exp_()
    return y.clone().index_add_(1, torch.tensor([1, 2]), x[:, :2])


def in_place(r: random.Random) -> nn.Module:
    function = r.choice([_slices, _through_a_view, _view_written, _into_zeros, _chain, _masked])
    return Of(function, l=linear())


# Number types.


def number_types(r: random.Random) -> nn.Module:
    def autocast(m: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return m.l(x).float()

    return r.choice(
        [
            lambda: Of(lambda m, x: m.l(x.double()).float(), l=linear().double()),
            lambda: Of(lambda m, x: m.l(x).half().float() * 0.5, l=linear()),
            lambda: Of(autocast, l=linear()),
            lambda: Of(lambda m, x: (m.l(x).to(torch.float64) ** 2).to(x.dtype), l=linear()),
            lambda: Of(lambda m, x: m.l(x) * (x > 0) + x.int().float() * 0.1, l=linear()),
        ]
    )()


def complexes(r: random.Random) -> nn.Module:
    return r.choice(
        [
            lambda: Of(lambda m, x: torch.fft.irfft(torch.fft.rfft(m.l(x)), n=8), l=linear()),
            lambda: Of(
                lambda m, x: torch.fft.irfft(torch.fft.rfft(x) * m.w, n=8) + x, w=weight(5, complex_numbers=True)
            ),
            lambda: Of(lambda m, x: torch.view_as_real(torch.complex(x, m.l(x)).exp()).mean(-1), l=linear()),
            lambda: Of(
                lambda m, x: torch.einsum("bi,oi->bo", x.to(torch.complex64), m.w).abs(),
                w=weight(8, 8, complex_numbers=True),
            ),
            lambda: Of(lambda m, x: (torch.polar(x.abs() + 1, m.l(x)) * (1 + 1j)).real, l=linear()),
        ]
    )()


# What a mode cannot see.


def unseen(r: random.Random) -> nn.Module:
    def without(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = m.l(x).square().mean()
        return x * scale

    def inference(m: Any, x: Tensor) -> Tensor:
        with torch.inference_mode():
            shift = float((x * 3).mean())
        return m.l(x) + shift

    return r.choice(
        [
            lambda: Of(lambda m, x: Swish.apply(m.l(x)), l=linear()),
            lambda: Of(lambda m, x: Product.apply(x, m.w) + x, w=weight(8, 8)),
            lambda: Of(lambda m, x: scripted(m.l(x)), l=linear()),
            lambda: Of(lambda m, x: traced(m.l(x)), l=linear()),
            lambda: Of(lambda m, x: torch.func.vmap(torch.tanh)(m.l(x)), l=linear()),
            lambda: Of(lambda m, x: torch.func.vmap(lambda row: m.w @ row)(x), w=weight(8, 8)),
            lambda: Of(without, l=linear()),
            lambda: Of(inference, l=linear()),
            lambda: Of(lambda m, x: m.l(x) * x.detach().norm() / 9, l=linear()),
            lambda: Of(lambda m, x: m.l(x) - x.data.mean(), l=linear()),
            lambda: Of(
                lambda m, x: torch.func.functional_call(m.l, {"weight": m.w * 0.5, "bias": m.b}, (x,)),
                l=linear(),
                w=weight(8, 8),
                b=weight(8),
            ),
        ]
    )()


# Containers, and a network's own machinery.


def containers(r: random.Random) -> nn.Module:
    kinds: list[Callable[[Tensor], Any]] = [
        lambda y: {"y": y},
        lambda y: OrderedDict(y=y, other=None),
        lambda y: UserDict(y=y),
        lambda y: Pair(y, {"more": [y]}),
        Held,
        lambda y: SimpleNamespace(value=y, count=3),
        lambda y: ((y,), [y, "text"]),
    ]
    kind = r.choice(kinds)

    def first(held: Any) -> Tensor:
        if isinstance(held, Tensor):
            return held
        if isinstance(held, Held | SimpleNamespace):
            return held.value
        return first(held["y"] if isinstance(held, dict | UserDict) else held[0])

    return Of(lambda m, x: first(m.inner(x)), inner=Of(lambda m, x: kind(m.l(x)), l=linear()))


def machinery(r: random.Random) -> nn.Module:
    hooked = linear()
    hooked.register_forward_hook(lambda m, args, out: out * 0.9)
    before = linear()
    before.register_forward_pre_hook(lambda m, args: (args[0] + 0.1,))

    def counted(m: Any, x: Tensor) -> Tensor:
        m.count += 1
        m.seen = 0.9 * m.seen + 0.1 * x.detach().mean(0)
        return m.l(x) + m.seen

    def chosen(m: Any, x: Tensor) -> Tensor:
        return m.l(x) if float(x.sum()) > 0 else m.k(x)

    def experts(m: Any, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for number, rows in enumerate((x[:, 0] > 0, x[:, 0] <= 0)):
            if rows.any():
                out[rows] = m.e[number](x[rows])
        return out

    made = Of(counted, l=linear())
    made.register_buffer("count", torch.zeros((), dtype=torch.long))
    made.register_buffer("seen", torch.zeros(8))
    return r.choice(
        [
            lambda: hooked,
            lambda: before,
            lambda: made,
            lambda: Of(chosen, l=linear(), k=linear()),
            lambda: Of(experts, e=nn.ModuleList([linear(), linear()])),
            lambda: Of(lambda m, x: m.l.forward(x) + m.l(input=x), l=linear()),
        ]
    )()


LEAVES: dict[str, Make] = {
    made.__name__: made
    for made in (
        *(products, convolutions, attention, recurrence, norms, activations, choosing, in_place, number_types),
        *(complexes, unseen, containers, machinery),
    )
}


# Pieces made of pieces.


def combined(r: random.Random, make: Make) -> nn.Module:
    """A branch, a shared or frozen piece, or one that is computed again in the backward pass."""
    shared = linear()
    return r.choice(
        [
            lambda: Of(lambda m, x: x + m.a(x), a=make(r)),
            lambda: Of(lambda m, x: torch.cat([m.a(x)[:, :4], m.b(x)[:, 4:]], 1), a=make(r), b=make(r)),
            lambda: Of(lambda m, x: m.a(x) * torch.sigmoid(m.b(x)), a=make(r), b=make(r)),
            lambda: Of(lambda m, x: m.s(m.a(m.s(x))), s=shared, a=make(r)),
            lambda: Of(lambda m, x: F.linear(m.a(m.s(x)), m.s.weight.T), s=shared, a=make(r)),
            lambda: make(r).requires_grad_(False),
            lambda: Of(lambda m, x: checkpoint(m.a, x, use_reentrant=False), a=make(r)),
            lambda: Of(lambda m, x: checkpoint(m.a, x, use_reentrant=True), a=make(r)),
            lambda: Of(
                lambda m, x: checkpoint_sequential(m.a, 2, x, use_reentrant=False),
                a=nn.Sequential(linear(), make(r), nn.GELU()),
            ),
            lambda: nn.Sequential(make(r), make(r)),
        ]
    )()


def network(seed: int) -> tuple[nn.Module, str]:
    """A network of a seed, in evaluation mode, and what it is made of."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    names: list[str] = []

    def leaf(r: random.Random) -> nn.Module:
        names.append(r.choice(list(LEAVES)))
        return LEAVES[names[-1]](r)

    parts: list[nn.Module] = [linear()]
    for _ in range(r.randint(1, 4)):
        if r.random() < 0.5:
            names.append("combined")
            parts.append(combined(r, leaf))
        else:
            parts.append(leaf(r))
    return nn.Sequential(*parts, nn.Linear(WIDTH, 3)).eval(), " ".join(names)
