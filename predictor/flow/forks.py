"""Forks: where several operations use one result, the error of each branch is rounded by itself, and their sum is not
(docs/definitions/training.md section 1).

Which results fork shows in the graph of a finished forward pass. Each use of one is an edge of the graph, whose error a
hook rounds on its way down; a result that the network also gives out is another branch, with a node of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.autograd import Function

from predictor.flow.points import Point, Rounding, at_error, mark_last
from workloads.containers import map_tensors, tensors_in

Node = Any
"""A node of autograd's graph."""
Result = tuple[Node, int]
"""What a node gave, by its number."""
Use = tuple[Node, int] | None
"""A node that takes a result, and as which of its inputs; None for the network's output."""


class _Branch(Function):
    """A tensor that the network gives out and uses itself; e -> Q_E(e)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, flow: Rounding, point: Point) -> Tensor:
        ctx.flow, ctx.point = flow, point
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, e: Tensor) -> Any:
        return at_error(e, ctx.flow, ctx.point), None, None


def _uses(outputs: Iterable[Tensor]) -> dict[Result, list[Use]]:
    """What takes each result in the graph behind these tensors."""
    found: dict[Result, list[Use]] = defaultdict(list)
    waiting, seen = [], set()
    for t in outputs:
        if t.grad_fn is not None:
            found[t.grad_fn, t.output_nr].append(None)
            waiting.append(t.grad_fn)
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        for place, (below, number) in enumerate(node.next_functions):
            if below is not None:
                found[below, number].append((node, place))
                waiting.append(below)
    return found


def _point_of(node: Node) -> Point | None:
    found = getattr(node, "point", None)
    return found if isinstance(found, Point) else None


def _numbers(uses: dict[Result, list[Use]]) -> dict[Node, list[int]]:
    """Which of a node's results are used."""
    found: dict[Node, list[int]] = defaultdict(list)
    for node, number in uses:
        found[node].append(number)
    return found


def _of_data_flow(uses: dict[Result, list[Use]], numbers: dict[Node, list[int]]) -> set[Node]:
    """The nodes that are points or depend on one; others compute with parameters alone."""
    waiting, found = [node for node in numbers if _point_of(node) is not None], set()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [use[0] for number in numbers.get(node, ()) for use in uses[node, number] if use is not None]
    return found


def _point_below(node: Node, of_data: set[Node]) -> Point:
    """The nearest point that a result was made from."""
    waiting = [node]
    while (point := _point_of(waiting[-1])) is None:
        node = waiting.pop()
        waiting += [below for below, _ in reversed(node.next_functions) if below in of_data]
    return point


def _is_sum(node: Node, uses: dict[Result, list[Use]], numbers: dict[Node, list[int]]) -> bool:
    """Whether all of the error that comes to a point is of branches, with no other point on the way from where they
    meet."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        for number in numbers[node]:
            if len(uses[node, number]) > 1:
                continue
            (use,) = uses[node, number]
            if use is None or _point_of(use[0]) is not None:
                return False
            waiting.append(use[0])
    return True


def _rounding(flow: Rounding, points: dict[int, Point]) -> Callable[[Any, Any], Any]:
    """A hook of a node that rounds what it hands to some of its inputs."""

    def hook(errors: tuple[Tensor | None, ...], _: Any) -> tuple[Tensor | None, ...]:
        return tuple(
            at_error(e, flow, points[place]) if e is not None and place in points else e
            for place, e in enumerate(errors)
        )

    return hook


def round_branches(output: Any, flow: Rounding) -> Any:
    """Let the errors of every branch be rounded by themselves, each at a point named after the nearest one below its
    fork, and mark the points whose errors are sums of them, and the last ones.

    Args:
        output: what the network gives at the end of a forward pass.
        flow: whose `error` rounds, as it is when errors come.

    Returns:
        The output, for the loss.
    """
    outputs = list(tensors_in(output))
    uses = _uses(outputs)
    numbers = _numbers(uses)
    of_data = _of_data_flow(uses, numbers)
    forks = {result: use for result, use in uses.items() if len(use) > 1 and result[0] in of_data}
    for node in numbers:
        point = _point_of(node)
        if point is not None:
            point.sums = _is_sum(node, uses, numbers)
    # Numbered in the order of the forward pass, so that each has the same name in every step.
    edges = [(use, _point_below(node, of_data)) for (node, _), of_fork in forks.items() for use in of_fork if use]
    edges.sort(key=lambda edge: (edge[0][0]._sequence_nr(), edge[0][1]))
    counts: dict[str, int] = defaultdict(int)

    def branch_of(point: Point) -> Point:
        counts[point.name] += 1
        return replace(
            point, operation=f"{point.operation}/{counts[point.name]}", two_terms=False, last=False, sums=False
        )

    at_nodes: dict[Node, dict[int, Point]] = defaultdict(dict)
    for (node, place), point in edges:
        at_nodes[node][place] = branch_of(point)

    def given_out(t: Tensor) -> Tensor:
        if (t.grad_fn, t.output_nr) not in forks:
            return t
        branch: Tensor = _Branch.apply(t, flow, branch_of(_point_below(t.grad_fn, of_data)))
        return branch

    output = map_tensors(given_out, output)
    between = mark_last(tensors_in(output))
    for node, points in at_nodes.items():
        for point in points.values():
            point.last = node in between and _point_of(node) is None
        node.register_hook(_rounding(flow, points))
    return output
