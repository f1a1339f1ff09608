"""Networks for the tests of calibration."""

from dataclasses import replace

import torch
from torch import nn

from tests.training import small


def trained(steps=60):
    """The small workload, trained for a few seconds' fraction in float32."""
    workload = small.workload()
    model = workload.model.to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for step in range(steps):
        optimizer.zero_grad()
        small.loss(model, workload.batches[step % len(workload.batches)]).backward()
        optimizer.step()
    return replace(workload, model=model.eval())


def depthwise(activation=nn.ReLU, decades=4):
    """Convolution, depthwise, convolution with batch normalization folded by hand away; weights of channels spread over
    decades."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 1), activation()),
        *(nn.Conv2d(16, 16, 3, padding=1, groups=16), activation()),
        nn.Conv2d(16, 8, 1),
    )
    factor = 10 ** (decades * (torch.rand(16) - 0.5))
    with torch.no_grad():
        model[0].weight.mul_(factor[:, None, None, None])
        model[0].bias.mul_(factor)
        model[2].weight.div_(factor[:, None, None, None])
    return model.eval()
