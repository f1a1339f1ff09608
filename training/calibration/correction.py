"""Bias correction: what quantized weights add to the mean of each output channel is taken off the bias.

Source: docs/definitions/calibration.md section 1, step 5 (M. Nagel, M. van Baalen, T. Blankevoort, M. Welling,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.calibration.activations import at_layer
from training.calibration.folded_layer import FoldedLayer
from training.calibration.network import Network
from workloads.workload import Batch, Workload


def clipped_normal_mean(gamma: Tensor, beta: Tensor, cap: Tensor | float | None = None) -> Tensor:
    """E[max(0, t)], or E[min(max(0, t), cap)], of normal t with mean beta and standard deviation |gamma|, float64.
    gamma of 0: of the constant beta."""
    beta, gamma = beta.double(), gamma.double().abs()
    top = None if cap is None else torch.as_tensor(cap, dtype=torch.float64).expand_as(beta)
    spread = torch.where(gamma > 0, gamma, 1.0)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))

    def density(t: Tensor) -> Tensor:
        return normal.log_prob(t).exp()

    a = -beta / spread
    if top is None:
        mean = spread * density(a) + beta * (1 - normal.cdf(a))
    else:
        b = (top - beta) / spread
        mean = spread * (density(a) - density(b)) + beta * (normal.cdf(b) - normal.cdf(a)) + top * (1 - normal.cdf(b))
    constant = beta.clamp(min=0) if top is None else torch.minimum(beta.clamp(min=0), top)
    return torch.where(gamma > 0, mean, constant)


def input_means(network: Network) -> dict[str, Tensor]:
    """E[x] of each input channel of the layers that read one normalized layer through nothing, ReLU, ReLU6 and mean
    pooling; by name."""
    found = {}
    for link in network.links():
        gamma, beta = link.first.gamma, link.first.beta
        if gamma is None or beta is None or link.through_maximum or link.activation == "leaky":
            continue
        if link.activation == "none":
            found[link.second.name] = beta.double()
            continue
        capped = next((node for node in link.nodes if network.kind(node) == "Capped"), None)
        cap = None if link.activation == "relu" else 6.0 if capped is None else network.submodule(capped).cap
        found[link.second.name] = clipped_normal_mean(gamma, beta, cap)
    return found


@torch.no_grad()
def correct_analytic(layer: FoldedLayer, before: Tensor, means: Tensor) -> Tensor:
    """Take W_hat - W, applied to the mean input, off the bias. before: the weight that was not quantized. Returns the
    shift, float64."""
    shift = layer.response(layer.weight.double() - before.double(), means)
    layer.add_bias(-shift)
    return shift


@torch.no_grad()
def correct_empirical(
    workload: Workload, full: nn.Module, quantized: nn.Module, layer: FoldedLayer, batches: Sequence[Batch]
) -> Tensor:
    """Take the mean of y_quant - y_full over mini-batches off the bias of a layer of `quantized`; returns that mean,
    float64.

    full: the network before quantization. The layers before this one are quantized and corrected already.
    """
    both = zip(
        at_layer(workload, full, layer.name, batches, output=True),
        at_layer(workload, quantized, layer.name, batches, output=True),
        strict=True,
    )
    total, count = torch.zeros((), dtype=torch.float64), 0
    for want, have in both:
        difference = (have.double() - want.double()).movedim(layer.channel_axis, 0).flatten(1)
        total, count = total + difference.sum(1), count + difference.shape[1]
    shift = total / count
    layer.add_bias(-shift)
    return shift
