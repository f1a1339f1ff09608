"""Small networks, and formats, that tests share; at the top of a module, so that other processes can import them."""

import os
import signal
import time

import torch
import torch.nn.functional as F
from torch import nn

from tests.processes import wait_until
from workloads import Workload


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def slow_loss(model, batch):
    time.sleep(0.01)
    return loss(model, batch)


def waiting_loss(model, batch, file, free=12):
    """So many times in a process, and from then on once there is a file."""
    LOSSES.append(batch)
    if len(LOSSES) > free:
        wait_until(file.exists)
    return loss(model, batch)


LOSSES = []


def broken_loss(model, batch):
    if batch[0].shape[0] == 16:
        raise RuntimeError("no\nsuch batch")
    return loss(model, batch)


def net(seed=0, batches=4, loss=loss):
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 16, 10)),
    )
    images, labels = torch.randn(16 * batches, 1, 8, 8), torch.randint(0, 10, (16 * batches,))
    return Workload("small", model, list(zip(images.split(16), labels.split(16), strict=True)), loss)


def small_workload(batches=3):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    data = [(torch.randn(16, 1, 8, 8), torch.randint(0, 10, (16,))) for _ in range(batches)]
    return Workload("small", model, data, lambda m, b: F.cross_entropy(m(b[0]), b[1]))


def drawn():
    """Other weights every time."""
    torch.seed()
    workload = net()
    for parameter in workload.model.parameters():
        nn.init.normal_(parameter, generator=torch.default_generator.manual_seed(torch.seed()))
    return workload


def doubled():
    """Another network, whose weights have the names and shapes of `net`'s, and another type."""
    workload = net()
    workload.model.double()
    return workload


class Deadly:
    """A format that ends the process that rounds to it."""

    name, digest = "deadly", "deadly-1"

    def round(self, x):
        os.kill(os.getpid(), signal.SIGKILL)


class Refusing:
    """A format that refuses what it gets, once there is a file."""

    name, digest = "refusing", "refusing-1"

    def __init__(self, file=None):
        self.file = file

    def round(self, x):
        if self.file is not None:
            wait_until(self.file.exists)
        raise ValueError("refusing rounds nothing")


class Breaking:
    """A format with an error in it."""

    name, digest = "breaking", "breaking-1"

    def round(self, x):
        raise RuntimeError("breaking broke")
