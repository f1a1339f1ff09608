"""Small workloads, at the top of a module, so that other processes can load them."""

import os
import signal

import torch
from torch import nn

from tests.nets import loss
from training import train
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


def deadly(step):
    """The same, whose loss ends the process in the middle of a step."""
    made = workload()
    calls = 0

    def ending(model, batch):
        nonlocal calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(model, batch)

    object.__setattr__(made, "loss", ending)
    return made


OPTIONS = {"epochs": 2, "rate": 0.05, "checkpoint_every": 3, "angle_every": 4, "warmup": 2, "schedule": "cosine"}


def run_until_killed(step, output):
    """What the test of resuming starts in a process of its own."""
    torch.set_num_threads(1)
    train(deadly(step), output=output, resume=True, **OPTIONS)


FULL = dict.fromkeys(("activation", "error", "weight", "gradient", "master"), "float32")
