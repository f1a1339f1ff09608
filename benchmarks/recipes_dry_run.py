"""What `formats recipes --dry-run` tells of transformers that nobody has made, on torch's meta device, against what
they take: GPT-2 networks of random weights in several sizes, and one of 1.5 billion parameters, told alone.

    MALLOC_MMAP_THRESHOLD_=65536 OMP_NUM_THREADS=1 python -m benchmarks.recipes_dry_run \
        > benchmarks/recipes_dry_run.txt

Beside each: seconds of the comparison on one mini-batch, median and range of three turns, and the memory at its peak,
taken over told (the variable lets the system have back at once what is freed). Expected before it was measured: memory
within 15%, time within 30%, of every size and length; the largest told in less than a minute.
"""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.smollm2 import resident
from predictor import measure_recipes
from predictor.recipe_comparison.outlook import estimate_recipes
from reports.tables.recipes import estimate
from workloads import Workload

RECIPES = ["mxfp8", "nvfp4"]
SYMBOLS, DRAWS, TURNS = 8192, 2, 3


class Size(NamedTuple):
    """Blocks, width, heads, tokens of a sequence, and sequences."""

    blocks: int
    width: int
    heads: int
    length: int
    sequences: int


SIZES = (
    Size(2, 256, 4, 128, 4),
    Size(2, 256, 4, 512, 4),
    Size(6, 512, 8, 128, 4),
    Size(6, 512, 8, 128, 1),
    Size(6, 512, 8, 512, 1),
    Size(12, 768, 12, 256, 1),
)
LARGE = Size(48, 1600, 25, 1024, 1)
SYMBOLS_OF_LARGE = 50257


def loss(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Of each next token."""
    logits = model(input_ids=tokens, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def gpt2(size: Size, symbols: int, device: str) -> Workload:
    """Random weights and tokens; on the meta device no weights."""
    torch.manual_seed(0)
    with torch.device(device):
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=symbols,
                n_positions=size.length,
                n_layer=size.blocks,
                n_embd=size.width,
                n_head=size.heads,
            )
        )
    return Workload("gpt2", model, [torch.randint(0, symbols, (size.sequences, size.length))], loss)


def row(size: Size) -> str:
    """Told of the network without weights, and taken by the one with them, in turns."""
    unmade, workload = gpt2(size, SYMBOLS, "meta"), gpt2(size, SYMBOLS, "cpu")
    measure_recipes(workload, RECIPES, draws=DRAWS)  # compiles
    told, ratios, memory = estimate_recipes(unmade, RECIPES, draws=DRAWS), [], 0
    before = resident("VmRSS") - told.memory.weights
    for _ in range(TURNS):
        told = estimate_recipes(unmade, RECIPES, draws=DRAWS)
        Path("/proc/self/clear_refs").write_text("5")
        began = time.perf_counter()
        measure_recipes(workload, RECIPES, draws=DRAWS)
        ratios.append((time.perf_counter() - began) / told.seconds)
        memory = max(memory, resident("VmHWM") - before)
    return (
        f"{told.memory.weights / 4e6:11.1f}{size.length:8d}{size.sequences:11d}{told.seconds:9.1f}"
        f"{statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        f"{told.memory.total / 1e6:9.0f}{memory / told.memory.total:14.2f}"
    )


def main() -> None:
    """A row a size, then the lines of --dry-run for the large one."""
    torch.set_num_threads(1)
    print(f"{'':30}{'seconds':>9}{'':23}{'MB':>9}")
    print(
        f"{'millions':>11}{'tokens':>8}{'sequences':>11}{'told':>9}{'taken / told':>23}{'told':>9}{'taken / told':>14}"
    )
    for size in SIZES:
        print(row(size), flush=True)
    began = time.perf_counter()
    told = estimate_recipes(gpt2(LARGE, SYMBOLS_OF_LARGE, "meta"))
    print(f"\n{told.memory.weights / 4e9:.2f} billion parameters, {LARGE.length} tokens:", end=" ")
    print(f"told after {time.perf_counter() - began:.0f} s\n{estimate('gpt2', told)}")


if __name__ == "__main__":
    main()
