"""Small workloads, at the top of a module, so that other processes can load them."""

import os
import signal

import torch
from torch import nn

from tests.nets import loss
from training import train
from training.step import Trainer
from workloads import Workload


def accuracy(model, batch):
    with torch.no_grad():
        return (model(batch[0]).argmax(1) == batch[1]).float().mean().item()


def network():
    """Convolutions, batch normalization, dropout, a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Flatten(), nn.Linear(72, 4)),
    ).to(memory_format=torch.channels_last)


def images(count, seed):
    """Four noisy patterns to tell apart: images (count, 1, 8, 8) and labels."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 4, (count,), generator=generator)
    return patterns[labels] + 1.5 * torch.randn(count, 1, 8, 8, generator=generator), labels


def workload(batches=8, scale=1.0):
    torch.manual_seed(0)
    x, y = images(16 * batches, 1)
    data = list(zip((scale * x).split(16), y.split(16), strict=True))
    return Workload("small", network(), data, loss, test=[images(128, 2)], metric=accuracy)


OPTIONS = {"epochs": 2, "rate": 0.05, "checkpoint_every": 3, "angle_every": 4, "warmup": 2, "schedule": "cosine"}


def run_until_killed(step, output, **options):
    """What the test of resuming starts in a process of its own, which ends in the middle of a loss."""
    torch.set_num_threads(1)
    losses, calls = Trainer._gradients, []

    def ending(trainer, batch):
        calls.append(batch)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return losses(trainer, batch)

    # Its own code and data are those of the run that goes on.
    Trainer._gradients = ending
    train(workload(), output=output, resume=True, **OPTIONS, **options)


FULL = dict.fromkeys(("activation", "error", "weight", "gradient", "master"), "float32")
