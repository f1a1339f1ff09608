"""Methods outside a training run."""

import torch

from predictor.flow.dataflow import DataFlow
from training.methods.method import begin
from training.weights import Streams


def started(method, model, x, epochs=10, seed=0):
    """A method's state after its calibrating pass over x, and the data flow whose sites it quantizes."""
    flow = DataFlow(model)
    with flow:
        state, _ = begin(method, flow, lambda: model(x), epochs, Streams(seed), seed)
    flow.site, state.training = state.site, True
    return state, flow


def distributions(count):
    """Gradients for the checks of Unified INT8: normal, Laplace, Student's t with 3 degrees of freedom, normal
    with one outlier of 100."""
    torch.manual_seed(0)
    normal = torch.randn(count)
    laplace = torch.distributions.Laplace(0.0, 1.0).sample((count,))
    heavy = torch.distributions.StudentT(3.0).sample((count,))
    outlier = normal.clone()
    outlier[count // 2] = 100.0
    return {"normal": normal, "laplace": laplace, "t3": heavy, "outlier": outlier}


def central_difference(function, x, width=1e-5):
    """The derivative of a scalar function by every element of x (float64)."""
    slopes = torch.zeros_like(x)
    for index in range(x.numel()):
        ends = []
        for sign in (1, -1):
            moved = x.detach().clone()
            moved.view(-1)[index] += sign * width
            ends.append(function(moved).item())
        slopes.view(-1)[index] = (ends[0] - ends[1]) / (2 * width)
    return slopes
