"""How long a ranking takes, from nothing measured to its first and to its final table, in full-precision gradients.

    python benchmarks/rank_time.py resnet18

Times are of one run, so that only their ratios are to be compared with those of other machines; it needs a quiet one.
The first table is to be there after at most 20 s or 8 gradients, whichever is later, the final one after at most 110.
"""

import statistics
import time
from typing import Annotated

import torch
import typer

from predictor.gradient.evaluation import evaluation_mode
from predictor.gradient.gradients import measured_parameters
from search import rank
from workloads import Workload, load

FIRST_SECONDS, FIRST_GRADIENTS, FINAL_GRADIENTS = 20.0, 8.0, 110.0
REPEATS = 5


def gradient_seconds(workload: Workload) -> float:
    """Of one full-precision gradient of the first mini-batch, with nothing of ours in it; the median."""
    batch, taken = workload.minibatches()[0], []
    keys = measured_parameters(workload.model)
    parameters = [p for p in workload.model.parameters() if id(p) in keys]
    with evaluation_mode(workload.model):
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            torch.autograd.grad(workload.loss_of(workload.model, batch), parameters, allow_unused=True)
            taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def main(model: Annotated[str, typer.Argument(help="a bundled network")] = "resnet18") -> None:
    """Time and judge."""
    workload = load(model)
    one = gradient_seconds(workload)
    print(f"{model}: {one:.3f} s a full-precision gradient of {workload.batch_size}, {torch.get_num_threads()} threads")
    began, reached = time.perf_counter(), []

    def tell(stage: str, measured: int) -> float:
        seconds = time.perf_counter() - began
        print(
            f"{stage:8} {measured:4} gradients measured, {seconds:7.1f} s, {seconds / one:6.1f} x a gradient",
            flush=True,
        )
        reached.append(seconds)
        return seconds

    found = rank(workload, yardsticks=True, so_far=lambda r: tell(r.settings.stage, r.settings.gradients) and None)
    final = tell("final", found.settings.gradients)
    kept = reached[0] <= max(FIRST_SECONDS, FIRST_GRADIENTS * one) and final <= FINAL_GRADIENTS * one
    print("all as promised" if kept else "SOMETHING FALLS SHORT")
    raise typer.Exit(not kept)


if __name__ == "__main__":
    typer.run(main)
