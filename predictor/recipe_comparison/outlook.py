"""What a comparison of recipes is going to take, before it is begun: gradients, memory and time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from formats.recipes.value import Recipe
from predictor.device import device_of
from predictor.effects import Effect
from predictor.measuring.session import Measuring
from predictor.measuring.units import Unit, check_minibatches, measure_unit
from predictor.recipe_comparison.keeping import Keep, keeping_of, rows_to_choose_by
from predictor.recipe_comparison.rows import (
    DEFAULT_DRAWS,
    DEFAULT_MINIBATCHES,
    changed_products,
    check_draws,
    chosen_recipes,
    rows_of,
    taken_apart,
)
from predictor.recipes.placed import Placed
from predictor.requirements.memory import Memory, available_memory, memory_of
from predictor.requirements.multiply_accumulates import ProductCost, share_of
from predictor.requirements.shapes import foreseen
from predictor.scheme import CURRENT
from workloads.containers import tensors_in
from workloads.workload import Batch, Workload

LONGEST_TIMED = 15.0
"""Seconds after which no further recipe is timed, and a network whose first gradients take longer is not at all."""
WIDTH = 1024
"""Of the products that are timed in place of those of a network: inputs, outputs, and at most as many tokens."""
PRODUCTS_TIMED = 5
"""In a gradient of theirs: the input of the first of two layers needs no gradient."""


@dataclass(frozen=True)
class RecipesEstimate:
    """What a comparison of recipes is going to do, for `--dry-run`.

    Attributes:
        recipes: how many.
        products: of the network that they change.
        share: of its multiply-accumulates that these are.
        gradients: to compute.
        minibatches: on so many.
        shape: of the first tensor in the first of them.
        memory: at the peak, of each process that measures.
        free: what this process can have of it, by the kernel.
        seconds: about how long it takes, from gradients of the recipes, or of some where that takes long, on the first
            mini-batch; where one does not fit or takes long itself, from products of `WIDTH`, each multiply-accumulate
            of the network taking as long as one of theirs.
        timed: whether the network's own gradients were timed.
        by_shapes: whether the network was followed by shapes; else it was carried out, since it looks at numbers on the
            way.
    """

    recipes: int
    products: int
    share: float
    gradients: int
    minibatches: int
    shape: tuple[int, ...]
    memory: Memory
    free: int
    seconds: float
    timed: bool
    by_shapes: bool

    @property
    def fits(self) -> bool:
        """Whether there is enough memory."""
        return self.memory.total < self.free


def estimate_recipes(
    workload: Workload,
    recipes: Sequence[str | Recipe] | None = None,
    minibatches: int | None = None,
    *,
    by: Iterable[str] = (),
    keep: Keep | None = None,
    batch_size: int | None = None,
    draws: int = DEFAULT_DRAWS,
    head: bool = False,
    exact: Sequence[str] = (),
) -> RecipesEstimate:
    """What `measure_recipes` with these arguments would do, and about how long it would take. The network's parameters
    may be on torch's meta device."""
    chosen, apart = chosen_recipes(recipes), taken_apart(by)
    check_draws(draws, chosen)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    outlook = foreseen(workload, batches[0])
    costs, memory = outlook.products, outlook.memory
    changed = changed_products(costs, head, exact)
    wanted, names = keeping_of(keep), [cost.name for cost in changed]
    wanted.check(names)
    rows = list(rows_of(chosen, apart, changed, head, 0))
    # What is kept takes as long as the recipe itself.
    kept = wanted.rows * [row for row in rows if row.may_keep]
    rows += [*rows_to_choose_by(rows, wanted, names), *kept]
    gradients_of = Counter[str]()
    for row in rows:
        gradients_of[row.placed.name] += row.draws(draws)
    there = sum(p.nbytes for p in workload.model.parameters() if not p.is_meta)
    free = there + available_memory()
    count = sum(cost.multiply_accumulates * len(cost.products) for cost in costs)
    # The first gradients are the full-precision one, and a recipe's twice.
    timed = memory.total < free and there == memory.weights and 3 * count * _of_a_product(workload) < LONGEST_TIMED
    if timed:
        shared, each = _timed(Measuring(workload, tuple(exact), CURRENT), chosen, gradients_of, batches[0], head, False)
    else:
        stand_in = _stand_in(workload, max(1, min(WIDTH, 4 * _forward(costs) // max(1, memory.gradients))))
        [batch] = stand_in.minibatches()
        shared, each = _timed(Measuring(stand_in, (), CURRENT), chosen, gradients_of, batch, True, True)
        scale = count / (PRODUCTS_TIMED * len(batch) * WIDTH**2)
        between = memory.activations * _of_a_byte(workload)
        shared, each = scale * shared + between, {name: scale * took + between for name, took in each.items()}
    delayed = sum(each[one.name] for one in chosen if one.history is not None)
    of_batch = shared + delayed + sum(each[row.placed.name] * row.draws(draws) for row in rows)
    return RecipesEstimate(
        recipes=len(chosen),
        products=len(changed),
        share=share_of(Placed(chosen[0], head=head), costs, tuple(exact)),
        gradients=len(batches) * sum(row.draws(draws) for row in rows),
        minibatches=len(batches),
        shape=next((tuple(t.shape) for t in tensors_in(batches[0])), ()),
        memory=memory,
        free=free,
        # The flow checks itself once against a gradient of torch's own.
        seconds=shared + len(batches) * of_batch,
        timed=timed,
        by_shapes=outlook.by_shapes,
    )


def _numbers(workload: Workload) -> torch.Tensor:
    """`WIDTH` x `WIDTH` normal ones, float32, where the network is to be measured."""
    device = device_of(workload)
    made = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
    return made.to("cpu" if device.type == "meta" else device)


def _of_a_product(workload: Workload) -> float:
    """Seconds of a multiply-accumulate of a product of `WIDTH`."""
    numbers, took = _numbers(workload), []
    for _ in range(3):
        began = time.monotonic()
        (numbers @ numbers)[0, 0].item()  # a GPU has computed it then
        took.append(time.monotonic() - began)
    return min(took) / WIDTH**3


def _of_a_byte(workload: Workload) -> float:
    """Seconds of a gradient for each byte that is kept for its backward pass, of what lies between products: a
    normalization, a nonlinearity and a softmax."""
    between = nn.Sequential(nn.LayerNorm(WIDTH), nn.GELU(), nn.Softmax(-1))
    given = _numbers(workload).requires_grad_()
    alone = Workload("between", between.to(given.device), [given], lambda model, batch: model(batch).square().mean())

    def gradient() -> float:
        began = time.monotonic()
        torch.autograd.grad(alone.loss_of(alone.model, given), given)[0][0, 0].item()
        return time.monotonic() - began

    return min(gradient() for _ in range(3)) / memory_of(alone, given).activations


def _forward(costs: Sequence[ProductCost]) -> int:
    """Multiply-accumulates of a forward pass through weights."""
    return sum(cost.multiply_accumulates for cost in costs if cost.parameter)


def _stand_in(workload: Workload, tokens: int) -> Workload:
    """Two linear layers of `WIDTH`, in place of a network."""
    numbers = _numbers(workload)
    layers = [nn.Linear(WIDTH, WIDTH, bias=False, device=numbers.device) for _ in range(2)]
    for layer in layers:
        layer.weight.data = numbers.clone()
    return Workload(
        "products", nn.Sequential(*layers), [numbers[:tokens]], lambda model, batch: model(batch).square().mean()
    )


def _timed(
    measuring: Measuring, chosen: Sequence[Recipe], gradients_of: Counter[str], batch: Batch, head: bool, again: bool
) -> tuple[float, dict[str, float]]:
    """Seconds of what all recipes share on a mini-batch, and of each recipe by its name; of as many as a short while
    takes, those first that most gradients are of, and for the others their mean. again: whether each is timed a second
    time, as the first of all is, since it compiles what is not in the cache."""
    each: dict[str, float] = {}
    began = first = time.monotonic()
    with measuring.gradients(batch, kept=False) as gradients:
        shared = time.monotonic() - began
        for one in sorted(chosen, key=lambda one: -gradients_of[one.name]):
            for _ in range(1 + (again or not each)):
                began = time.monotonic()
                measure_unit(gradients, Unit(0, 0, (Effect.OPERANDS,)), Placed(one, head=head))
                each[one.name] = time.monotonic() - began
            if time.monotonic() - first > LONGEST_TIMED:
                break
    mean = sum(each.values()) / len(each)
    return shared, {one.name: each.get(one.name, mean) for one in chosen}
