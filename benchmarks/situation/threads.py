"""Situations of networks of which another thread computes a part."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.situation.listing import Outcome, listed, refusal, same_gradient, situation, square
from predictor import measure
from workloads import Workload

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
POOL = ThreadPoolExecutor(2)


class Threaded(nn.Module):
    """A product, what a thread makes, and another product."""

    def __init__(self, made: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.made = nn.Linear(8, 8), nn.Linear(8, 3), nn.Linear(8, 8), made

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.made(self, self.a(x)))


def _in_thread(make: Callable[[], Tensor]) -> Tensor:
    made: list[Tensor] = []
    thread = threading.Thread(target=lambda: made.append(make()))
    thread.start()
    thread.join()
    return made[0]


def _written(net: nn.Module, x: Tensor) -> Tensor:
    into = torch.zeros_like(x)
    _in_thread(lambda: into.copy_(x.detach().sin()))
    return x + into


@situation("a product in another thread, its gradient")
def _shared(folder: Path) -> Outcome:
    return same_gradient(Threaded(lambda net, x: x + _in_thread(lambda: F.linear(x, net.a.weight))), X)


@situation("a product in another thread, listed")
def _product(folder: Path) -> Outcome:
    return listed(Threaded(lambda net, x: x + _in_thread(lambda: F.linear(x, net.a.weight))), X, {"mm"})


@situation("activations alone, by a pool of threads, listed")
def _alone(folder: Path) -> Outcome:
    return listed(Threaded(lambda net, x: x + POOL.submit(torch.sin, x.detach()).result()), X, {"tensor"})


@situation("layers in parallel, listed")
def _parallel(folder: Path) -> Outcome:
    return listed(Threaded(lambda net, x: net.a(x) + sum(POOL.map(net.a, [x, -x]))), X, {"forward", "addmm"})


@situation("what another thread writes, listed")
def _writes(folder: Path) -> Outcome:
    return listed(Threaded(_written), X, {"tensor"})


@situation("a number that another thread takes, listed")
def _taken(folder: Path) -> Outcome:
    return listed(Threaded(lambda net, x: x * POOL.submit(lambda: x.norm().item()).result()), X, {"item"})


@situation("a layer that only another thread calls")
def _only(folder: Path) -> Outcome:
    model = Threaded(lambda net, x: POOL.submit(net.c, x).result())
    return refusal(lambda: measure(Workload("threads", model, [X], square), ["FP134"]), r"c\.weight; .* c:forward")
