"""The benchmark of docs/definitions/methods.md section 10: scikit-learn's handwritten digits and a network of three
convolutions."""

from dataclasses import replace

import torch
from sklearn.datasets import load_digits
from torch import nn

from tests.training import small
from training import train
from workloads import Workload

TRAINED, BATCH = 1297, 64


def network(smooth=False, padding=1, normalized=True):
    """Three 3x3 convolutions with batch normalization and ReLU (or SiLU), average pooling, a linear layer."""
    activation = nn.SiLU if smooth else nn.ReLU

    def block(inputs, outputs):
        normalization = (nn.BatchNorm2d(outputs),) if normalized else ()
        return nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False), *normalization, activation()

    layers = (
        *block(1, 16),
        *block(16, 32),
        nn.AvgPool2d(2),
        *block(32, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return nn.Sequential(*layers)


def workload(smooth=False, seed=0):
    """1297 images for training, in mini-batches of 64, and 500 for testing; metric: accuracy."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = (torch.tensor(data.images, dtype=torch.float32)[:, None] / 16 - 0.5)[order]
    labels = torch.tensor(data.target)[order]
    torch.manual_seed(seed)
    batches = list(zip(images[:TRAINED].split(BATCH), labels[:TRAINED].split(BATCH), strict=True))
    return Workload(
        "digits",
        network(smooth),
        batches,
        small.loss,
        test=[(images[TRAINED:], labels[TRAINED:])],
        metric=small.accuracy,
    )


SCRATCH = {"epochs": 15, "rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
FINE = {"epochs": 10, "rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "start": "pretrained"}
SEEDS = 0, 1
FULL = small.FULL


def accuracy(method, recipe, starts=None, smooth=False):
    """The mean test accuracy of a method over SEEDS, from scratch or from a network for each seed."""
    total = 0.0
    for number, seed in enumerate(SEEDS):
        own = workload(smooth, seed)
        found = train(
            own if starts is None else replace(own, model=starts[number].model), method=method, **recipe, seed=seed
        )
        total += found.metric / len(SEEDS)
    return total
