"""A user's file of networks, which tests of the command line copy to where they run."""

import signal

import torch
import torch.nn.functional as F
from torch import nn

from workloads import Workload

torch.manual_seed(0)


def make(loss=None, scale=1.0, count=3):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    data = [(torch.randn(8, 1, 4, 4) * scale, torch.randint(0, 4, (8,))) for _ in range(count)]
    return Workload("mine", model, data, loss or (lambda m, b: F.cross_entropy(m(b[0]), b[1])))


def net():
    return make()


def damaged():
    return make(scale=float("nan"))


def endless():
    """From its 100th call on, its loss waits to be interrupted."""
    calls = []

    def loss(m, b):
        calls.append(b)
        if len(calls) > 100:
            signal.pause()
        return F.cross_entropy(m(b[0]), b[1])

    return make(loss, count=40)


def number():
    return 3


def full_disk():
    import errno
    import os

    fsync, calls = os.fsync, []

    def fail(handle):
        calls.append(handle)
        if len(calls) == 9:  # the checkpoint of the second epoch
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    os.fsync = fail
    return net()


def other():
    made = make(count=2)
    object.__setattr__(made, "name", "other")
    return made


def flat():
    return make(lambda m, b: 0 * F.cross_entropy(m(b[0]), b[1]))
