"""Random networks: the data flow's loss and gradient against torch's own, and points plus "no point" against every
operation that depends on the input, as a recorder of this script sees them.

    OMP_NUM_THREADS=1 python benchmarks/random_modules.py [--count 300] [--seed 0]

benchmarks/flow/pieces.py says what the networks are made of. A line a network: its seed, its pieces, what was found.
Exit code 1 where a gradient differs from torch's own, or an operation is in neither list.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.flow.pieces import WIDTH, network
from predictor.flow import decompositions
from predictor.flow.operations import name_of
from predictor.gradient.gradients import Gradients
from predictor.measuring.self_check import check
from workloads import Workload
from workloads.containers import tensors_in

ROWS = 6
TOLERANCE = 1e-3
"""Relative, of the whole gradient: other orders of float32 sums."""
OF_16_BITS = 0.05
"""The same where torch alone computes in 16 bits and the flow in float32."""
NO_NETWORK = "torch alone fails"
DRAWN = ("rand", "randn", "bernoulli", "empty", "multinomial", "to_copy", "is_all_true")
"""Operations whose numbers do not come from those that they are given, and casts."""


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def minibatch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, WIDTH, generator=generator), torch.randint(0, 3, (ROWS,), generator=generator)


@dataclass
class Recorder:
    """Every operation of one forward pass that depends on the input and makes numbers that were not there.

    Attributes:
        calls: for each call of a torch function, layer, name, and the operations that it carried out.
        alone: (layer, operation) of those outside any call.
    """

    calls: list[tuple[str, str, list[str]]] = field(default_factory=list)
    alone: set[tuple[str, str]] = field(default_factory=set)
    layers: list[str] = field(default_factory=lambda: [""])
    open: list[list[str]] = field(default_factory=list)
    memory: set[int] = field(default_factory=set)
    kept: list[Tensor] = field(default_factory=list)

    def taint(self, t: Tensor) -> None:
        t = t._values() if t.is_sparse else t
        self.kept.append(t)  # so that no other tensor comes to lie there
        self.memory.add(t.untyped_storage()._cdata)

    def run(self, model: nn.Module, x: Tensor) -> None:
        """One pass."""
        recorder = self

        class Functions(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                recorder.open.append([])
                try:
                    return func(*args, **(kwargs or {}))
                finally:
                    operations = recorder.open.pop()
                    if operations:
                        recorder.calls.append((recorder.layers[-1], name_of(func)[0], operations))

        class Operations(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                return recorder.carried_out(func, args, kwargs or {})

        self.taint(x)
        with ExitStack() as stack:
            for name, module in model.named_modules():
                if name:
                    stack.callback(
                        module.register_forward_pre_hook(lambda m, a, name=name: self.layers.append(name)).remove
                    )
                    stack.callback(
                        module.register_forward_hook(
                            lambda m, a, o: self.layers.pop() and None, always_call=True
                        ).remove
                    )
            stack.enter_context(Functions())
            stack.enter_context(Operations())
            model(x)

    def carried_out(self, func: Any, args: Any, kwargs: Any) -> Any:
        inputs = [t._values() if t.is_sparse else t for t in tensors_in((args, kwargs))]
        depends = any(t.untyped_storage()._cdata in self.memory for t in inputs)
        before = [t.detach().clone() for t in inputs] if depends else []
        result = func(*args, **kwargs)
        if not depends:
            return result
        outputs = list(tensors_in(result))
        for t in outputs:
            self.taint(t)
        name = func._schema.name.removeprefix("aten::").strip("_")
        if not name.startswith(DRAWN) and any(makes_numbers(t, before) for t in outputs):
            (self.open[-1].append(name) if self.open else self.alone.add((self.layers[-1], name)))
        return result


def makes_numbers(output: Tensor, inputs: list[Tensor]) -> bool:
    """Whether at least two values of an output are none of its inputs', up to their sign."""
    if not (output.is_floating_point() or output.is_complex()):
        return False
    parts = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in (output, *inputs)]
    values = [t.detach().double().abs().flatten() for t in parts]
    there = torch.cat([*values[1:], torch.zeros(1, dtype=torch.float64)])
    return len(values[0][~torch.isin(values[0], there)].unique()) > 1


def unaccounted(recorded: Recorder, gradients: Gradients, unseen: set[tuple[str, str]]) -> list[str]:
    """What the recorder saw and neither the points nor "no point" hold."""
    flow = gradients.flow
    entries = Counter((e.layer, e.operation) for e in (*flow.points, *flow.skipped))
    pointed = {e.layer for e in flow.points}
    missing = [f"{layer}:{name}" for layer, name in sorted(recorded.alone - unseen)]
    for (layer, name), count in Counter((layer, name) for layer, name, _ in recorded.calls).items():
        operations = {op for at, called, ops in recorded.calls if (at, called) == (layer, name) for op in ops}
        in_parts = name in decompositions.TABLE and layer in pointed
        if not (in_parts or entries[layer, name] >= count or {(layer, op) for op in operations} <= unseen):
            missing.append(f"{layer}:{name} ({count} calls, {entries[layer, name]} entries, {sorted(operations)})")
    return missing


def torchs_own(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients by torch alone."""
    own = copy.deepcopy(model)
    torch.manual_seed(0)
    value = loss(own, batch)
    value.backward()
    return value.item(), {
        name: (p.grad.to_dense() if p.grad.is_sparse else p.grad)
        for name, p in own.named_parameters()
        if p.grad is not None
    }


def examine(seed: int) -> tuple[str, bool, str]:
    """What a network is made of, whether all is right, and what was found."""
    model, made_of = network(seed)
    batch = minibatch(seed)
    try:
        value, own = torchs_own(model, batch)
    except Exception as error:
        return made_of, True, f"{NO_NETWORK}, {' '.join(str(error).split())[:100]}"
    if not all(g.isfinite().all() for g in own.values()):
        return made_of, True, "torch's own gradient is not finite"
    recorded = Recorder()
    torch.manual_seed(0)
    recorded.run(copy.deepcopy(model), batch[0])
    try:
        with Gradients(Workload(f"seed {seed}", model, [batch], loss), batch, watched=True) as gradients:
            checked = check(gradients)
            found = dict(zip(gradients.names, gradients.full, strict=True))
            missing = unaccounted(recorded, gradients, {(e.layer, e.operation) for e in checked.coverage.unseen})
            points, skipped, unseen = len(gradients.flow.points), len(gradients.flow.skipped), checked.coverage.unseen
            value_found = gradients.loss.item()
    except ValueError as error:
        return made_of, "\n" not in str(error), f"refused: {error}"
    pairs = [(torch.view_as_real(own[n]) if own[n].is_complex() else own[n], g) for n, g in found.items() if n in own]
    square = sum(float(g.double().square().sum()) for g, _ in pairs)
    apart = sum(float((g.double() - q.double()).square().sum()) for g, q in pairs)
    difference = (apart / square) ** 0.5 if square else float(apart > 0)
    bound = OF_16_BITS if "number_types" in made_of else TOLERANCE
    wrong = []
    if difference > bound or abs(value_found - value) > bound * max(1.0, abs(value)):
        wrong.append(f"the gradient differs by {difference:.2g}, the loss by {value_found - value:.2g}")
    if absent := sorted(set(found) - set(own)):
        wrong.append(f"torch has no gradient of {', '.join(absent)}")
    wrong += [f"in neither list: {entry}" for entry in missing]
    seen = f"{points} points, {skipped} skipped, {len(unseen)} unseen, difference {difference:.1e}"
    return made_of, not wrong, "; ".join(wrong) or seen


def main(
    count: Annotated[int, typer.Option(help="networks")] = 300,
    seed: Annotated[int, typer.Option(help="of the first")] = 0,
) -> None:
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    number = seed - 1
    while outcomes.total() - outcomes[NO_NETWORK] < count:
        number += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made_of, right, found = examine(number)
        outcome = (
            next((word for word in ("refused", NO_NETWORK) if found.startswith(word)), "right") if right else "WRONG"
        )
        outcomes[outcome] += 1
        said = found if found.startswith(outcome) else f"{outcome}: {found}"
        print(f"seed {number}: {made_of}: {said}", flush=True)
    print(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())))
    sys.exit(int(outcomes["WRONG"] > 0))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
