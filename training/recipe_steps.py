"""The products of a network in training, computed as a recipe says: which random numbers a step draws, and which scales
it begins with where scaling is delayed (docs/definitions/recipes.md section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from formats.recipes.presets import BASELINE
from formats.recipes.reading import recipe
from formats.recipes.value import ALL_BEFORE, Recipe, described
from numeric_formats.messages import counted
from predictor.flow.points import Quantizer
from predictor.gradient.quantizers import activation_quantizer, error_quantizer
from predictor.recipe_comparison.keeping import products_of
from predictor.recipes.gradients import BETWEEN, check_products, last_of
from predictor.recipes.placed import Placed, Top
from predictor.recipes.products import RecipeAtSites, number_of, random_seed
from predictor.requirements.multiply_accumulates import product_costs, share_of
from training import checkpoint
from training.coverage import MOST_NAMED
from workloads.workload import Batch, Workload

Tops = dict[str, Top]
"""Scales by site, product and operand."""


@dataclass(frozen=True)
class TrainedRecipe:
    """A recipe, and where it holds in a network that is trained.

    Args:
        recipe: Whose formats the operands of products have.
        head: Whether it changes the network's last product too.
        exact: Layers that stay in full precision.
        kept: Layers or products that are computed in the baseline's formats, as those that were kept when measured.
    """

    recipe: Recipe
    head: bool = False
    exact: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint has to agree with, as plain values."""
        return {"recipe": self.recipe.name, "recipe_digest": self.recipe.digest, **self._where}

    def plain(self) -> dict[str, Any]:
        """As a result file has it."""
        return {**described(self.recipe), **self._where}

    @property
    def _where(self) -> dict[str, Any]:
        return {"head": self.head, "exact": list(self.exact), "keep": list(self.kept) or None}


def check_alone(recipe: Recipe, given: Mapping[str, bool]) -> None:
    """ValueError where something was given beside a recipe that contradicts it. given: by what users call it."""
    if wrong := [name for name, present in given.items() if present]:
        raise ValueError(
            f"recipe {recipe.name} was given together with {', '.join(wrong)}: a recipe rounds operands of products "
            "alone, and weights, their gradients and the optimizer stay float32; leave out the one or the other"
        )


class RecipeSteps:
    """A recipe in the steps of one training.

    Args:
        given: The recipe, and where it holds.
        workload: Whose network and loss.
        batch: A mini-batch, which shows the products of the network.
        seed: Of the run; with the number of a step and the contents of its mini-batch, of that step's random numbers.

    Attributes:
        sites: Says how the products of the pass at hand are computed; what `DataFlow.site` asks.

    Raises:
        ValueError: Where the recipe changes nothing of the network, or nothing of a layer that is to be kept.
    """

    def __init__(self, given: TrainedRecipe, workload: Workload, batch: Batch, seed: int):
        self.given, self.costs = given, product_costs(workload, batch)
        products = [cost.name for cost in self.costs if cost.parameter]
        check_products(workload.name, products)
        self._last = last_of(products, given.head)
        everywhere = Placed(given.recipe, head=given.head, seed=seed)
        self._changed = [cost.name for cost in self.costs if share_of(everywhere, [cost], given.exact)]
        kept = frozenset(products_of(given.kept, self._changed))
        self._placed = replace(everywhere, kept=kept, instead=recipe(BASELINE) if kept else None)
        self._step = 0
        self._before: list[Tops] = []
        self.sites: RecipeAtSites | None = None

    def begin(self, batch: Batch) -> None:
        """Before the forward pass of a step."""
        placed = self._now()
        self.sites = RecipeAtSites(placed, self._last, random_seed(placed, batch))

    def evaluate(self) -> None:
        """Before the passes of an evaluation, which draw random numbers of their own and move no scale."""
        self.sites = RecipeAtSites(self._now(), self._last, number_of(f"{self._placed.seed} {self._step} metric"))

    def go_back(self) -> None:
        """Between the forward and the backward pass."""
        if self.sites is not None:
            self.sites.backward = True

    def end(self) -> None:
        """After a step that was made."""
        assert self.sites is not None  # begun
        self._step += 1
        history = self.given.recipe.history
        if history == ALL_BEFORE:
            self._before = [_largest([*self._before, self.sites.tops])]
        elif history is not None:
            self._before = [*self._before, self.sites.tops][-history:]

    def between(self, evaluation: bool) -> tuple[Quantizer | None, Quantizer | None]:
        """How activations and errors between the products are rounded."""
        format = self.given.recipe.elsewhere
        if format is None:
            return None, None
        return activation_quantizer(format, BETWEEN), None if evaluation else error_quantizer(format, BETWEEN)

    def _now(self) -> Placed:
        return replace(self._placed, draw=self._step, tops=tuple(sorted(_largest(self._before).items())))

    @property
    def sentence(self) -> str:
        """How much of the network the recipe changes, and what it leaves in float32, in a line."""
        kept = [name for name in self._changed if name in self._placed.kept]
        left = [cost.name for cost in self.costs if cost.parameter and cost.name not in self._changed]
        count = len(self._changed) - len(kept)
        return (
            f"recipe {self.given.recipe.name}: {counted(count, 'product')} with "
            f"{100 * share_of(self._placed, self.costs, self.given.exact):.4g}% of the multiply-accumulates"
            f"{_named(f'kept in {BASELINE}', kept)}{_named('left in float32', left)}"
        )

    def state(self) -> dict[str, Any]:
        """Between steps, as plain values, for a checkpoint."""
        return {"step": self._step, "before": self._before}

    def restore(self, saved: Mapping[str, Any], path: Path) -> None:
        """Go on from what `state` gave. path: of the checkpoint, for errors."""
        checkpoint.check_kind(path, "step of the recipe", 0, saved["step"])
        for tops in saved["before"]:
            checkpoint.check_kind(path, "a scale of the recipe", dict.fromkeys(tops, 0.0), tops)
        self._step, self._before = saved["step"], [dict(tops) for tops in saved["before"]]


def _named(what: str, products: Sequence[str]) -> str:
    """The first products of a part; nothing where there is none."""
    more = f" and {len(products) - MOST_NAMED} more" if len(products) > MOST_NAMED else ""
    return f"; {what}: {', '.join(products[:MOST_NAMED])}{more}" if products else ""


def _largest(of: Sequence[Tops]) -> Tops:
    """The largest scale of each operand."""
    found: Tops = {}
    for tops in of:
        for key, top in tops.items():
            found[key] = max(found.get(key, top), top)
    return found
