"""The two factors of a product, and which of them is the weight, for each of torch's operations that multiply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
_ARGUMENTS = {
    **dict.fromkeys((*CONVOLUTIONS, "linear"), ("input", "weight", "bias")),
    **{"matmul": ("input", "other"), "inner": ("input", "other"), "mv": ("input", "vec")},
    **dict.fromkeys(("mm", "bmm"), ("input", "mat2")),
    **{"addmm": ("input", "mat1", "mat2"), "addmv": ("input", "mat", "vec")},
    **dict.fromkeys(("baddbmm", "addbmm"), ("input", "batch1", "batch2")),
}
"""Names of the factors, and of what is added: behind them in layers, before them in the operations that begin with
"add"."""
OPERATIONS = frozenset({*_ARGUMENTS, "einsum", "tensordot"})
"""The operations that can be sites, by torch's names."""

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Labels(NamedTuple):
    """Names of the axes of both factors and the product; axes of one name are of one length and run together."""

    x: tuple[str, ...]
    weight: tuple[str, ...]
    product: tuple[str, ...]


@dataclass(frozen=True)
class Operands:
    """One product, taken apart.

    Attributes:
        x: the factor that is no weight.
        weight: the other one; where both depend on the input, the second.
        bias: what is added.
        product: of (x, weight, bias).
        output_axes: the weight's axes that the product has too, as output channels.
        channel_axis: the (last) axis of output channels in the product.
        labels: of all axes; None for convolutions.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    product: Product
    output_axes: tuple[int, ...]
    channel_axis: int
    labels: Labels | None = None


@dataclass(frozen=True)
class _Axes:
    """Of a weight in a product: those that are summed over, and where its output channels come to lie."""

    summed: tuple[int, ...]
    channel: int


def operands_of(
    function: Any, name: str, args: Any, kwargs: Any, is_weight: Callable[[Tensor], bool]
) -> Operands | None:
    """A call of one of `OPERATIONS`, taken apart; None where it is not one of a matrix with something else.

    Args:
        function: torch's.
        name: of the operation.
        args: of the call.
        kwargs: of the call.
        is_weight: whether a factor does not depend on the network's input.
    """
    if name in ("einsum", "tensordot"):
        return _of_labels(function, name, args, kwargs, is_weight)
    if getattr(function, "__name__", "") == "__rmatmul__":
        function, args = torch.matmul, args[::-1]
    arguments, given = list(args), dict(kwargs)
    found = [arguments.pop(0) if arguments else given.pop(key, None) for key in _ARGUMENTS[name]]
    adds = name.startswith(("add", "badd"))
    bias, first, second = found if adds else (found[2] if len(found) == 3 else None, *found[:2])
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or "out" in given:
        return None
    layer = name in CONVOLUTIONS or name == "linear"
    swapped = not layer and is_weight(first) and not is_weight(second)
    x, weight = (second, first) if swapped else (first, second)
    if weight.ndim < 2:
        return None

    def product(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        both = (w, x) if swapped else (x, w)
        result: Tensor = function(*((b, *both) if adds else (*both, b) if layer else both), *arguments, **given)
        return result

    axes = _axes(name, x, weight, swapped)
    kept = tuple(d for d in range(weight.ndim) if d not in axes.summed)
    return Operands(x, weight, bias, product, kept, axes.channel, _labels(name, x, weight, swapped))


def _labels(name: str, x: Tensor, weight: Tensor, first: bool) -> Labels | None:
    """first: whether the weight is the first factor."""
    if name in CONVOLUTIONS:
        return None
    if name in ("linear", "inner"):
        of_x, of_weight = ([f"{who}{d}" for d in range(t.ndim - 1)] for who, t in (("x", x), ("w", weight)))
        product = (*of_weight, *of_x) if first else (*of_x, *of_weight)
        return Labels((*of_x, "k"), (*of_weight, "k"), product)
    # Axes before the last two belong together from the right, but for those of which a factor has one element.
    shapes = x.shape[:-2], weight.shape[:-2]
    before = []
    for who, own, others in (("x", *shapes), ("w", *reversed(shapes))):
        alone = [n == 1 and len(others) >= d and others[-d] != 1 for d, n in enumerate(reversed(own), 1)]
        before.append([f"{who}{d}" if lone else f"b{d}" for d, lone in enumerate(alone, 1)][::-1])
    count = max(map(len, before))
    pairs = zip(*([None] * (count - len(own)) + own for own in before), strict=True)
    shared = [a if b is None or b.startswith("w") else b for a, b in pairs]
    rows = ["m"] if x.ndim > 1 else []
    axes = (["n", "k"], ["k", *rows], ["n", *rows]) if first else (["k", "n"], [*rows, "k"], [*rows, "n"])
    kept = [] if name == "addbmm" else [label for label in shared if label is not None]
    return Labels((*before[0], *axes[1]), (*before[1], *axes[0]), (*kept, *axes[2]))


def _axes(name: str, x: Tensor, weight: Tensor, first: bool) -> _Axes:
    """first: whether the weight is the first factor."""
    last = weight.ndim - 1
    if name in CONVOLUTIONS:
        output = 1 if name.startswith("conv_transpose") else 0
        return _Axes(tuple(d for d in range(weight.ndim) if d != output), 1 - weight.ndim)
    if name == "linear":
        return _Axes((last,), -1)
    if name == "inner":
        return _Axes((last,), -x.ndim if first else -1)
    batch = (0,) if name == "addbmm" else ()
    if first:
        return _Axes((*batch, last), -2 if x.ndim > 1 else -1)
    return _Axes((*batch, last - 1), -1)


# Products whose axes have labels.


def _of_labels(
    function: Any, name: str, args: Any, kwargs: Any, is_weight: Callable[[Tensor], bool]
) -> Operands | None:
    if name == "einsum":
        if not args or not isinstance(args[0], str):
            return None
        equation = args[0]
        factors = list(args[1]) if len(args) == 2 and isinstance(args[1], list | tuple) else list(args[1:])
    else:
        named = {"a": None, "b": None, "dims": 2} | dict(zip(("a", "b", "dims"), args, strict=False)) | kwargs
        factors, dims = [named["a"], named["b"]], named["dims"]
        if named.get("out") is not None or isinstance(dims, Tensor):
            return None
    if len(factors) != 2 or not all(isinstance(t, Tensor) for t in factors):
        return None
    read = _einsum_labels(equation, factors) if name == "einsum" else _tensordot_labels(dims, factors)
    if read is None:
        return None
    *labels, output = read
    number = 0 if is_weight(factors[0]) and not is_weight(factors[1]) else 1
    weight, own, others = factors[number], labels[number], labels[1 - number]
    kept = tuple(d for d, label in enumerate(own) if label in output)
    channels = [output.index(label) for label in own if label in output and label not in others]
    if weight.ndim < 2 or not channels or len(kept) == weight.ndim:
        return None

    def product(x: Tensor, w: Tensor, _: Tensor | None) -> Tensor:
        both = (w, x) if number == 0 else (x, w)
        result: Tensor = function(equation, *both) if name == "einsum" else function(*both, dims)
        return result

    named = Labels(tuple(others), tuple(own), tuple(output))
    return Operands(factors[1 - number], weight, None, product, kept, max(channels) - len(output), named)


def _einsum_labels(equation: str, factors: Sequence[Tensor]) -> list[list[str]] | None:
    """Labels of the axes of both factors and the result; those of an ellipsis are numbers, counted from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2:
        return None
    read = []
    for term, t in zip(terms, factors, strict=True):
        before, dots, after = term.partition("...")
        hidden = t.ndim - len(before) - len(after)
        read.append([*before, *(str(hidden - k) for k in range(hidden)), *after])
    if any(len(labels) != len(set(labels)) for labels in read):  # a diagonal
        return None
    hidden_labels = max(([label for label in labels if label.isdigit()] for labels in read), key=len)
    if not arrow:
        counts = [label for labels in read for label in labels if not label.isdigit()]
        once = sorted(label for label in set(counts) if counts.count(label) == 1)
        return [*read, [*hidden_labels, *once]]
    before, dots, after = right.partition("...")
    return [*read, [*before, *(hidden_labels if dots else ()), *after]]


def _tensordot_labels(dims: Any, factors: Sequence[Tensor]) -> list[list[str]]:
    a, b = factors
    pairs = (range(a.ndim - dims, a.ndim), range(dims)) if isinstance(dims, int) else dims
    first, second = ([d % t.ndim for d in own] for own, t in zip(pairs, factors, strict=True))
    summed = dict(zip(second, first, strict=True))
    of_a = [f"a{d}" for d in range(a.ndim)]
    of_b = [f"a{summed[d]}" if d in summed else f"b{d}" for d in range(b.ndim)]
    output = [label for label in of_a if int(label[1:]) not in first] + [label for label in of_b if label[0] == "b"]
    return [of_a, of_b, output]
