"""AdaRound: each weight goes to its lower or upper neighbour in the format, as the layer's output wants it.

Source: docs/definitions/calibration.md section 1, step 5 (M. Nagel, R. Amjad, M. van Baalen, C. Louizos, T.
Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from numeric_formats.checks import number
from numeric_formats.files import check_same
from training.calibration.activations import ActivationStore
from training.calibration.folded_layer import FoldedLayer
from training.calibration.grids import WeightGrid
from training.checkpoint import fill, optimizer_tensors, read, restore_optimizer, restoring, write

ZETA, GAMMA = 1.1, -0.1
"""The sigmoid is stretched to this range and clipped to 0 .. 1, so that its ends are reached."""

SETTLED = 0.01
"""h within this of 0 or 1 has been decided."""

SEEDS_APART = 1_000_003
"""Between the mini-batches of one seed and the next."""

INPUT, TARGET = "input", "target"
EARLIER = "give the same, or start with --force"
"""What helps where what is kept is of another run."""


@dataclass(frozen=True)
class AdaRound:
    """Options of AdaRound. The paper takes 10000 iterations at rate 0.001; fewer at 0.01 come close.

    Args:
        iterations: Steps of Adam for each layer.
        rate: Its learning rate.
        batch: Rows of a step.
        regularization: lambda.
        warmup: Share of the iterations without the regularizer.
        first_beta: The regularizer's exponent at first, annealed by a cosine.
        last_beta: At last.
        checkpoint_every: Iterations between checkpoints, where there is a folder.

    Raises:
        ValueError: For options that mean nothing.
    """

    iterations: int = 600
    rate: float = 0.01
    batch: int = 32
    regularization: float = 0.01
    warmup: float = 0.2
    first_beta: float = 20.0
    last_beta: float = 2.0
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "checkpoint_every"):
            number(f"adaround: {name}", getattr(self, name), 1, whole=True)
        number("adaround: rate", self.rate, 0)
        number("adaround: regularization", self.regularization, 0)
        number("adaround: warmup", self.warmup, 0, 1)
        number("adaround: first_beta", self.first_beta, 1)
        number("adaround: last_beta", self.last_beta, 1, self.first_beta)

    def beta(self, iteration: int) -> float | None:
        """The regularizer's exponent at an iteration (from 0); None before it begins."""
        start = self.warmup * self.iterations
        if iteration < start:
            return None
        relative = (iteration - start) / (self.iterations - start)
        return self.last_beta + 0.5 * (self.first_beta - self.last_beta) * (1 + math.cos(math.pi * relative))


def rectified(v: Tensor) -> Tensor:
    """h(V): the stretched and clipped sigmoid."""
    return (v.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def first_values(fraction: Tensor) -> Tensor:
    """V with h(V) = fraction, float32."""
    return -((ZETA - GAMMA) / (fraction.double() - GAMMA) - 1).log().float()


@dataclass(frozen=True)
class Rounded:
    """What became of a layer.

    Attributes:
        nearest: The loss of its output after the activation (squared norm over channels, mean over all else) with
            weights rounded to nearest.
        loss: The same as the layer was left.
        settled: Share of h within 0.01 of 0 or 1 at the end.
        flipped: Share of weights not rounded to nearest.
    """

    nearest: float
    loss: float
    settled: float
    flipped: float


def layer_loss(have: Tensor, want: Tensor, channel_axis: int) -> Tensor:
    """Squared norm over channels, mean over rows and places."""
    return (have - want).square().sum(channel_axis).mean()


def round_layer(
    layer: FoldedLayer,
    grid: WeightGrid,
    threshold: Tensor,
    store: ActivationStore,
    activation: Callable[[Tensor], Tensor],
    options: AdaRound,
    seed: int = 0,
    *,
    checkpoint: Path | None = None,
    bound_to: Mapping[str, Any] = MappingProxyType({}),
    progress: Callable[[int], None] | None = None,
) -> tuple[Tensor, Rounded]:
    """AdaRound of one layer, which itself is not changed. The result never has a higher loss on the store than rounding
    to nearest.

    Args:
        layer: Whose weight is rounded.
        grid: Of the weight.
        threshold: Of the grid.
        store: Rows "input", with all layers before it quantized, and "target", the layer's output after its activation
            in float32.
        activation: What follows the layer.
        options: Of AdaRound.
        seed: Decides the mini-batches.
        checkpoint: A file written every `checkpoint_every` iterations, from which a run that was ended goes on to the
            same bits at the same number of threads; removed by the caller.
        bound_to: What else it has to be made with, as plain values.
        progress: Called with the iterations done.

    Returns:
        The rounded weight (float32, values of the format times the step) and what became of the loss.
    """
    module: nn.Module = layer.module
    places = grid.neighbours(layer.weight, threshold)
    nearest = grid.weight(layer.weight, threshold)
    bias = {} if layer.module.bias is None else {"bias": layer.module.bias.detach()}

    def output(weight: Tensor, x: Tensor) -> Tensor:
        made: Tensor = functional_call(module, {"weight": weight, **bias}, (x,))
        return activation(made)

    @torch.no_grad()
    def loss_of(weight: Tensor) -> float:
        total = 0.0
        for rows in store.in_order(options.batch):
            x, want = store.read(INPUT, rows), store.read(TARGET, rows)
            total += layer_loss(output(weight, x).double(), want.double(), layer.channel_axis).item() * len(x)
        return total / store.rows

    v = nn.Parameter(first_values(places.fraction))
    # In float32, as a float64 product for each step would take most of the time; the end is taken from `places`.
    low, gap = (places.low * places.step.double()).float(), ((places.high - places.low) * places.step.double()).float()
    free = (gap > 0).float()
    optimizer = torch.optim.Adam([v], lr=options.rate)
    settings = {**bound_to, **asdict(options), "seed": seed, "layer": layer.name}
    begin = 0
    if checkpoint is not None and checkpoint.exists():
        saved, state = read(checkpoint)
        with restoring(checkpoint):
            check_same(checkpoint, state["settings"], settings, EARLIER)
            fill({"v": v}, saved, "", checkpoint)
            restore_optimizer(optimizer, saved, state["groups"], checkpoint)
            begin = state["iteration"]
            if type(begin) is not int or not 0 < begin < options.iterations:
                raise ValueError(f"it is of iteration {begin!r}")
    for iteration in range(begin, options.iterations):
        # Mini-batches depend on seed and iteration alone, so that a resumed run sees the same.
        # torch's generator takes the last 32 bits alone.
        generator = torch.Generator().manual_seed((SEEDS_APART * seed + iteration) % (1 << 32))
        rows = torch.randint(store.rows, (min(options.batch, store.rows),), generator=generator).numpy()
        with torch.enable_grad():
            h = rectified(v)
            loss = layer_loss(
                output(low + h * gap, store.read(INPUT, rows)), store.read(TARGET, rows), layer.channel_axis
            )
            beta = options.beta(iteration)
            if beta is not None:
                loss = loss + options.regularization * (free * (1 - (2 * h - 1).abs().pow(beta))).sum()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        done = iteration + 1
        if checkpoint is not None and done % options.checkpoint_every == 0 and done < options.iterations:
            state = {"settings": settings, "iteration": done, "groups": optimizer.state_dict()["param_groups"]}
            write(checkpoint, {"v": v, **optimizer_tensors(optimizer)}, state)
        if progress is not None:
            progress(done)
    h = rectified(v.detach())
    undecided = free.bool()
    settled = ((h < SETTLED) | (h > 1 - SETTLED))[undecided].float().mean().item() if undecided.any() else 1.0
    # h(V) >= 1/2 is V >= 0.
    rounded = places.at((v.detach() >= 0).double())
    of_nearest, of_rounded = loss_of(nearest), loss_of(rounded)
    if not of_rounded < of_nearest:
        rounded, of_rounded = nearest, of_nearest
    flipped = (rounded != nearest).float().mean().item()
    return rounded, Rounded(of_nearest, of_rounded, settled, flipped)
