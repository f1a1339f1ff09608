"""Attention and recurrent layers step by step, since torch computes them in one call that shows no parts
(docs/definitions/prediction.md section 1).

Each function takes the data flow, then the arguments of the torch function it stands for, and returns what that
returns. `flow.point(tensor, operation)` puts a point on a part; `flow.product(function, x, weight, bias)` computes a
product, which may be a site, with a point on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from predictor.flow.points import Pointed


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """A mask to be added: False (or, for a float mask, its own values) as -inf."""
    if mask.dtype is torch.bool:
        return torch.zeros(mask.shape, dtype=like.dtype, device=mask.device).masked_fill(mask.logical_not(), -math.inf)
    return mask


_FUSED: Callable[[Tensor, int], Tensor] = torch._safe_softmax
"""What torch's fused attention computes: 0 in rows that are masked out entirely, where torch.softmax gives NaN."""


def _attention(
    flow: Pointed,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    dropout_p: float,
    softmax: Callable[[Tensor, int], Tensor],
) -> tuple[Tensor, Tensor]:
    scores = flow.product(torch.matmul, query, key.transpose(-2, -1)) * scale
    if mask is not None:
        scores = scores + mask
    weights = flow.point(softmax(scores, -1), "softmax")
    dropped = F.dropout(weights, dropout_p) if dropout_p else weights
    return flow.product(torch.matmul, dropped, value), weights


def _thirds(bias: Tensor | None) -> Sequence[Tensor | None]:
    return (None, None, None) if bias is None else bias.chunk(3)


def _causal(query: Tensor, key: Tensor) -> Tensor:
    shape = query.shape[-2], key.shape[-2]
    return _additive(torch.ones(shape, dtype=torch.bool, device=query.device).tril(), query)


def scaled_dot_product_attention(
    flow: Pointed,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """torch.nn.functional.scaled_dot_product_attention."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    mask = _causal(query, key) if is_causal else None if attn_mask is None else _additive(attn_mask, query)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return _attention(flow, query, key, value, mask, factor, dropout_p, _FUSED)[0]


def multi_head_attention_forward(
    flow: Pointed,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """torch.nn.functional.multi_head_attention_forward: (length, batch, features), or (length, features)."""
    batched = query.ndim == 3
    same_key, same_value = key is query, value is key
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.shape
    head = width // num_heads

    def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return flow.product(F.linear, x, weight, bias)

    if use_separate_proj_weight:
        assert q_proj_weight is not None
        assert k_proj_weight is not None
        assert v_proj_weight is not None
        thirds = _thirds(in_proj_bias)
        q, k, v = (
            project(query, q_proj_weight, thirds[0]),
            project(key, k_proj_weight, thirds[1]),
            project(value, v_proj_weight, thirds[2]),
        )
    else:
        assert in_proj_weight is not None
        w, b = in_proj_weight, in_proj_bias
        if same_key and same_value:
            q, k, v = project(query, w, b).chunk(3, -1)
        elif same_value:
            q = project(query, w[:width], None if b is None else b[:width])
            k, v = project(key, w[width:], None if b is None else b[width:]).chunk(2, -1)
        else:
            parts, thirds = w.chunk(3), _thirds(b)
            q, k, v = (
                project(query, parts[0], thirds[0]),
                project(key, parts[1], thirds[1]),
                project(value, parts[2], thirds[2]),
            )
    added = 0
    if bias_k is not None and bias_v is not None:
        k, v = torch.cat([k, bias_k.repeat(1, batch, 1)]), torch.cat([v, bias_v.repeat(1, batch, 1)])
        added += 1

    def split(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], batch, num_heads, head).permute(1, 2, 0, 3)

    q, k, v = split(q), split(k), split(v)
    if static_k is not None:
        k = static_k.reshape(batch, num_heads, -1, head)
    if static_v is not None:
        v = static_v.reshape(batch, num_heads, -1, head)
    if add_zero_attn:
        zero = torch.zeros(batch, num_heads, 1, head, dtype=k.dtype, device=k.device)
        k, v = torch.cat([k, zero], 2), torch.cat([v, zero], 2)
        added += 1
    mask = None
    if attn_mask is not None:
        # In this function True means "may not attend".
        mask = _additive(attn_mask.logical_not() if attn_mask.dtype is torch.bool else attn_mask, q)
        if mask.ndim == 3:
            mask = mask.reshape(batch, num_heads, *mask.shape[1:])
        mask = F.pad(mask, (0, added))
    elif is_causal:
        mask = F.pad(_causal(q, k[..., : k.shape[2] - added, :]), (0, added))
    if key_padding_mask is not None:
        inverted = key_padding_mask.logical_not() if key_padding_mask.dtype is torch.bool else key_padding_mask
        padding = F.pad(_additive(inverted, q), (0, added))[:, None, None, :]
        mask = padding if mask is None else mask + padding
    # torch itself takes the fused path where no weights are wanted.
    softmax = torch.softmax if need_weights else _FUSED
    out, weights = _attention(flow, q, k, v, mask, 1 / math.sqrt(head), dropout_p if training else 0.0, softmax)
    joined = out.permute(2, 0, 1, 3).reshape(length, batch, width)
    result = project(joined, out_proj_weight, out_proj_bias)
    shown: Tensor | None = None
    if need_weights:
        shown = flow.point(weights.mean(1), "mean") if average_attn_weights else weights
        shown = shown if batched else shown.squeeze(0)
    return (result if batched else result.squeeze(1)), shown


# Recurrent cells: gates from x.W_ih (already computed) and the state, to the new state.

State = tuple[Tensor, ...]
Cell = Callable[..., State]


def _hidden(flow: Pointed, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return flow.product(F.linear, h, weight, bias, once=True)


def _lstm_step(
    flow: Pointed, gates: Tensor, state: State, weight: Tensor, bias: Tensor | None, projection: Tensor | None
) -> State:
    h, c = state
    i, f, g, o = flow.point(gates + _hidden(flow, h, weight, bias), "add").chunk(4, -1)
    i, f = flow.point(torch.sigmoid(i), "sigmoid"), flow.point(torch.sigmoid(f), "sigmoid")
    g, o = flow.point(torch.tanh(g), "tanh"), flow.point(torch.sigmoid(o), "sigmoid")
    c = flow.point(f * c + i * g, "add")
    h = flow.point(o * flow.point(torch.tanh(c), "tanh"), "mul")
    if projection is not None:
        h = _hidden(flow, h, projection, None)
    return h, c


def _gru_step(
    flow: Pointed, gates: Tensor, state: State, weight: Tensor, bias: Tensor | None, _: Tensor | None
) -> State:
    (h,) = state
    x_reset, x_update, x_new = gates.chunk(3, -1)
    h_reset, h_update, h_new = _hidden(flow, h, weight, bias).chunk(3, -1)
    reset = flow.point(torch.sigmoid(flow.point(x_reset + h_reset, "add")), "sigmoid")
    update = flow.point(torch.sigmoid(flow.point(x_update + h_update, "add")), "sigmoid")
    new = flow.point(torch.tanh(flow.point(x_new + reset * h_new, "add")), "tanh")
    return (flow.point((1 - update) * new + update * h, "add"),)


def _rnn_step(nonlinearity: str) -> Cell:
    function = {"tanh": torch.tanh, "relu": torch.relu}[nonlinearity]

    def step(
        flow: Pointed, gates: Tensor, state: State, weight: Tensor, bias: Tensor | None, _: Tensor | None
    ) -> State:
        (h,) = state
        new = function(flow.point(gates + _hidden(flow, h, weight, bias), "add"))
        return (flow.point(new, "tanh") if nonlinearity == "tanh" else new,)

    return step


def _steps(
    flow: Pointed, cell: Cell, parts: list[Tensor], state: State, weights: list[Any], backwards: bool
) -> tuple[list[Tensor], State]:
    """Run one layer in one direction over a list of steps whose batch may shrink (packed sequences)."""
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    sizes = [len(part) for part in parts]
    gates = flow.product(F.linear, torch.cat(parts), w_ih, b_ih).split(sizes)
    outputs: list[Tensor] = [gates[0]] * len(parts)
    full = state
    active = tuple(s[: sizes[-1]] for s in full) if backwards else full
    finished: list[State] = []
    for t in reversed(range(len(parts))) if backwards else range(len(parts)):
        size = sizes[t]
        if size < len(active[0]):
            finished.append(tuple(s[size:] for s in active))
            active = tuple(s[:size] for s in active)
        elif size > len(active[0]):
            grown = len(active[0])
            active = tuple(torch.cat([s, first[grown:size]]) for s, first in zip(active, full, strict=True))
        active = cell(flow, gates[t], active, w_hh, b_hh, w_hr)
        outputs[t] = active[0]
    final = tuple(torch.cat([s, *(done[k] for done in reversed(finished))]) for k, s in enumerate(active))
    return outputs, final


def _recurrent(
    flow: Pointed,
    cell: Cell,
    parts: list[Tensor],
    states: State,
    flat: list[Tensor],
    biases: bool,
    layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
) -> tuple[list[Tensor], State]:
    directions = 2 if bidirectional else 1
    count = len(flat) // (layers * directions)
    ends: list[State] = []
    for layer in range(layers):
        results = []
        for direction in range(directions):
            at = layer * directions + direction
            own = flat[at * count : (at + 1) * count]
            weights = [own[0], own[1], *(own[2:4] if biases else (None, None)), own[-1] if count in (3, 5) else None]
            outputs, end = _steps(flow, cell, parts, tuple(s[at] for s in states), weights, direction == 1)
            results.append(outputs)
            ends.append(end)
        parts = [torch.cat(both, -1) if bidirectional else both[0] for both in zip(*results, strict=True)]
        if dropout and training and layer < layers - 1:
            parts = [F.dropout(part, dropout) for part in parts]
    return parts, tuple(torch.stack(values) for values in zip(*ends, strict=True))


def _layered(cell: Cell, pair: bool) -> Callable[..., Any]:
    def run(flow: Pointed, x: Tensor, second: Any, *rest: Any) -> Any:
        packed = isinstance(rest[0], Tensor) or (pair and isinstance(second, Tensor))
        if packed:
            hidden, flat, biases, layers, dropout, training, bidirectional = rest
            parts = list(x.split(second.tolist()))
        else:
            hidden = second
            flat, biases, layers, dropout, training, bidirectional, batch_first = rest
            parts = list(x.unbind(1 if batch_first and x.ndim == 3 else 0))
        states = tuple(hidden) if pair else (hidden,)
        lone = not packed and x.ndim == 2
        if lone:
            parts, states = [part.unsqueeze(0) for part in parts], tuple(s.unsqueeze(1) for s in states)
        parts, ends = _recurrent(flow, cell, parts, states, flat, biases, layers, dropout, training, bidirectional)
        if lone:
            parts, ends = [part.squeeze(0) for part in parts], tuple(end.squeeze(1) for end in ends)
        if packed:
            return (torch.cat(parts), *ends)
        return (torch.stack(parts, 1 if batch_first and x.ndim == 3 else 0), *ends)

    return run


def _single(cell: Cell, pair: bool) -> Callable[..., Any]:
    def run(
        flow: Pointed,
        x: Tensor,
        hidden: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:
        gates = flow.product(F.linear, x, w_ih, b_ih)
        state = cell(flow, gates, tuple(hidden) if pair else (hidden,), w_hh, b_hh, None)
        return state if pair else state[0]

    return run


TABLE: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "multi_head_attention_forward": multi_head_attention_forward,
    "lstm": _layered(_lstm_step, True),
    "gru": _layered(_gru_step, False),
    "rnn_tanh": _layered(_rnn_step("tanh"), False),
    "rnn_relu": _layered(_rnn_step("relu"), False),
    "lstm_cell": _single(_lstm_step, True),
    "gru_cell": _single(_gru_step, False),
    "rnn_tanh_cell": _single(_rnn_step("tanh"), False),
    "rnn_relu_cell": _single(_rnn_step("relu"), False),
}
