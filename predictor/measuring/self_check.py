"""The flow checks itself: its full-precision loss and gradient against torch's own, once for a workload.

Nothing is worth measuring against a wrong reference. What a function mode and decompositions make of a network is
compared with what torch makes of it alone, on the first mini-batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from predictor.flow.arrivals import Again
from predictor.flow.calls import dense, eagerly
from predictor.flow.coverage import Coverage
from predictor.flow.float32 import InFloat32
from predictor.flow.points import Skipped
from predictor.gradient.evaluation import same_passes
from predictor.gradient.freed import give_back
from predictor.gradient.gradients import Gradients, in_reals, measured_parameters
from workloads.calls import call
from workloads.containers import map_tensors, tensors_in
from workloads.copies import copied
from workloads.workload import Batch, Workload

ROUNDING = 1e-3
"""Relative difference of gradients, or losses, up to which other orders of float32 sums explain it."""
ROUNDING_IN_FLOAT64 = 1e-6
"""The same in float64, for gradients that cancel."""
REPEATS = 1e-5
"""Relative difference above which it is worth a look whether the network repeats itself at all."""
MOST_NAMED = 4
PIECE = 1 << 20
"""Elements of two gradients that are compared at a time."""


@dataclass(frozen=True)
class Checked:
    """What a check found: nothing wrong, and what the points cover.

    Attributes:
        coverage: of the forward pass.
        parameters: elements of all parameters of the network.
        measured: elements of those whose gradients are measured.
    """

    coverage: Coverage
    parameters: int
    measured: int

    def to_bytes(self) -> bytes:
        """For the store."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Checked:
        """What `to_bytes` gave."""
        kept = json.loads(content)
        unseen = tuple(
            Skipped(e["layer"], e["operation"], tuple(e["shape"]), e["reason"]) for e in kept["coverage"]["unseen"]
        )
        coverage = Coverage(kept["coverage"]["multiply_accumulates"], kept["coverage"]["covered"], unseen)
        return cls(coverage, kept["parameters"], kept["measured"])

    @property
    def sentence(self) -> str:
        """What is covered, in a line."""
        share = 100 * self.coverage.share
        of_parameters = 100 * self.measured / self.parameters if self.parameters else 100.0
        unseen = len(self.coverage.unseen)
        rest = (
            f"; {unseen} operations that depend on the input have no point (formats points lists them)"
            if unseen
            else ""
        )
        of_seen = "" if self.coverage.is_whole else " that are seen"
        covered = f"points cover {share:.4g}% of the multiply-accumulates{of_seen}"
        return f"{covered}, the angle {of_parameters:.4g}% of the parameters{rest}"


def check(gradients: Gradients) -> Checked:
    """Compare opened gradients, whose flow was watched, with torch's own. From then on it is not.

    Args:
        gradients: of the first mini-batch.

    Returns:
        What is covered.

    Raises:
        ValueError: loss or gradient differ by more than rounding, the network does not repeat itself, or what it gives
            does not depend on what it was given.
    """
    workload, watch = gradients.workload, gradients.flow.watch
    if watch is None:
        raise ValueError("the flow of these gradients was not watched: open them with watched=True")
    measured = measured_parameters(gradients.flow.model)
    parameters = {name: p for p in gradients.flow.model.parameters() if (name := measured.get(id(p))) is not None}
    with gradients.closed():
        met = Again()
        watched = met if watch.arrivals.is_open else nullcontext()
        loss, own = torchs_own(workload, gradients.batch, list(parameters.values()), watched)
        watch.arrivals.settle(met)
        differing = _difference(gradients, dict(zip(parameters, own, strict=True)), loss)
        if differing.relative > REPEATS:
            again, _ = torchs_own(workload, gradients.batch, [])
            if again != loss:
                raise ValueError(
                    f"workload {workload.name} does not repeat itself: two passes over the same mini-batch give losses "
                    f"{loss:.8g} and {again:.8g}, without any rounding. Draw random numbers from torch, numpy.random "
                    "or random, which are set alike before each pass, and count nothing in the forward pass"
                )
    if differing.relative > ROUNDING and not _agrees_in_float64(gradients):
        raise ValueError(_explained(workload, gradients, differing, loss))
    # The passes that are measured afterwards are not watched: that takes time, and keeps what is known of each.
    gradients.flow.watch = None
    everything = sum(p.numel() for p in gradients.flow.model.parameters())
    counted = sum(parameters[name].numel() for name in gradients.names)
    del own
    give_back()
    return Checked(watch.result(), everything, counted)


def _agrees_in_float64(gradients: Gradients) -> bool:
    """Whether the difference is one of rounding: then it is far smaller where both compute in float64.

    A gradient that nearly cancels is mostly rounding in float32, in torch's own kernels too.
    """
    try:
        with gradients.closed():
            model = copied(gradients.flow.model).double()
        batch = map_tensors(lambda t: t.double() if t.is_floating_point() else t, gradients.batch)
        workload = replace(gradients.workload, model=model, batches=[batch], train=None, test=None)
        measured = measured_parameters(model)
        parameters = {name: p for p in model.parameters() if (name := measured.get(id(p))) is not None}
        with Gradients(workload, batch) as wide:
            with wide.closed():
                loss, own = torchs_own(workload, batch, list(parameters.values()))
            return _difference(wide, dict(zip(parameters, own, strict=True)), loss).relative <= ROUNDING_IN_FLOAT64
    except Exception:  # a network that cannot be copied, or is no float64 network
        return False


@dataclass(frozen=True)
class _Difference:
    """relative: of losses and of gradients, the larger. layers: names of parameters that differ, most first."""

    relative: float
    layers: Sequence[str]


def _squares(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """|ours - theirs|^2 and |theirs|^2, in pieces: copies in float64 of all would be four times as large as both."""
    found = torch.zeros(2, dtype=torch.float64, device=theirs.device)
    for a, b in zip(ours.reshape(-1).split(PIECE), theirs.reshape(-1).split(PIECE), strict=True):
        wide = b.double()
        found += torch.stack([(a.double() - wide).square().sum(), wide.square().sum()])
    of_difference, of_theirs = found.tolist()
    return of_difference, of_theirs


def _difference(gradients: Gradients, own: dict[str, Tensor | None], loss: float) -> _Difference:
    flow = dict(zip(gradients.names, gradients.full, strict=True))
    squares: dict[str, tuple[float, float]] = {}
    for name, theirs in own.items():
        ours = flow.get(name)
        if ours is None and theirs is None:
            continue
        g = torch.zeros_like(ours) if theirs is None and ours is not None else theirs
        assert g is not None
        squares[name] = _squares(torch.zeros_like(g) if ours is None else ours, g)
    total = sum(g for _, g in squares.values())
    apart = sum(d for d, _ in squares.values())
    of_gradient = (apart / total) ** 0.5 if total else float(apart > 0)
    of_loss = abs(gradients.loss.item() - loss) / max(abs(loss), 1e-30)
    layers = sorted(
        (name for name, (d, g) in squares.items() if d > ROUNDING**2 * max(g, 1e-30)), key=lambda n: -squares[n][0]
    )
    return _Difference(max(of_gradient, of_loss if loss == loss else 0.0), layers)


def _explained(workload: Workload, gradients: Gradients, difference: _Difference, loss: float) -> str:
    named = ", ".join(difference.layers[:MOST_NAMED]) + (", ..." if len(difference.layers) > MOST_NAMED else "")
    assert gradients.flow.watch is not None
    unseen = gradients.flow.watch.result().unseen
    hint = ""
    if unseen:
        seen = ", ".join(
            dict.fromkeys(f"{e.layer or '(network)'}:{e.operation} ({e.reason})" for e in unseen[:MOST_NAMED])
        )
        hint = f"; what cannot be seen into: {seen}"
    return (
        f"workload {workload.name}: the data flow's full-precision gradient differs from torch's own by "
        f"{difference.relative:.2g} of its length (losses {gradients.loss.item():.8g} and {loss:.8g}), "
        "so that nothing can be measured against it; "
        f"it differs in {named or 'the loss'}{hint}"
    )


def torchs_own(
    workload: Workload,
    batch: Batch,
    parameters: Sequence[nn.Parameter],
    watched: AbstractContextManager[object] = nullcontext(),
) -> tuple[float, list[Tensor | None]]:
    """Loss and gradients of parameters as torch alone gives them; `.grad` of all is afterwards what it was. The forward
    pass is made inside `watched`."""
    with torch.enable_grad(), same_passes(workload.model), eagerly(), InFloat32():
        with watched:
            loss = workload.loss_of(workload.model, batch)
        value = float(loss.item())
        if not parameters:
            return value, []
        what, grad = f"the gradient of workload {workload.name}", partial(torch.autograd.grad, allow_unused=True)
        if not _is_reentrant(loss):
            return value, [in_reals(dense(g)) for g in call(what, workload.model, grad, loss, parameters)]
        with _own_grads([*workload.model.parameters(), *tensors_in(batch)]):
            call(what, workload.model, loss.backward)
            return value, [in_reals(dense(p.grad)) for p in parameters]


def _is_reentrant(loss: Tensor) -> bool:
    """Whether a loss's graph holds reentrant checkpointing, which torch.autograd.grad refuses."""
    waiting: list[Any] = [loss.grad_fn]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "CheckpointFunctionBackward":
            return True
        waiting += [following for following, _ in node.next_functions]
    return False


@contextmanager
def _own_grads(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, no tensor has a `.grad`; afterwards each has what it had."""
    before = [(t, t.grad) for t in tensors if t.is_leaf]
    for t, _ in before:
        t.grad = None
    try:
        yield
    finally:
        for t, grad in before:
            t.grad = grad
