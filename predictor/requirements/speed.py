"""Timing a quantized gradient against the full-precision one, in one run."""

from __future__ import annotations

import copy
import statistics
import time

import torch

from formats.pairs import candidate
from numeric_formats.checks import at_least
from predictor.effects import Effect
from predictor.gradient.evaluation import evaluation_mode
from predictor.gradient.gradients import Gradients
from workloads.workload import Workload


def time_gradient(workload: Workload, name: str, batch_size: int | None, repeats: int) -> list[list[str]]:
    """Time a gradient with data flow in full precision, and with both activations and errors quantized, in turns.

    Args:
        workload: whose network, loss and first mini-batch.
        name: of the format.
        batch_size: examples of the mini-batch, by default the workload's.
        repeats: how many times each is timed.

    Returns:
        Rows of text: what, median seconds, times full precision.

    Raises:
        ValueError: fewer than one repeat, or a format or mini-batch that there is not.
    """
    at_least(f"{repeats} repeats", repeats)
    format = candidate(name)
    batch = workload.minibatches(batch_size)[0]
    # A copy of its own, since the points hook into the workload's model.
    model = copy.deepcopy(workload.model)
    full: list[float] = []
    quantized: list[float] = []
    with evaluation_mode(model), Gradients(workload, batch) as gradients:
        # The same gradients as are measured, no others.
        parameters = [model.get_parameter(name) for name in gradients.names]

        def plain() -> None:
            torch.autograd.grad(workload.loss_of(model, batch), parameters)

        def rounded() -> None:
            for _ in gradients.quantized(format, (Effect.AE,)):
                pass

        for counted in range(-1, repeats):
            for function, taken in ((plain, full), (rounded, quantized)):
                began = time.perf_counter()
                function()
                if counted >= 0:
                    taken.append(time.perf_counter() - began)
    base, ours = statistics.median(full), statistics.median(quantized)
    return [
        ["full precision", f"{base:.3f}", "1.00"],
        [f"{format.name} (AE), {len(gradients.flow.points)} points", f"{ours:.3f}", f"{ours / base:.2f}"],
    ]
