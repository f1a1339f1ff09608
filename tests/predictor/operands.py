"""A network whose operands, and whose gradient with any of them rounded, torch alone computes."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.nets import loss
from workloads import Workload

ONE, OTHER = "0", "2"
"""Its layers but for the head."""


def workload(batches=2):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 36), nn.Tanh(), nn.Linear(36, 5))
    data = [(torch.randn(48, 20), torch.randint(0, 5, (48,))) for _ in range(batches)]
    return Workload("operands", model, data, loss)


def by_hand(model, batch):
    """x, dy and W of both layers."""
    x1 = batch[0]
    y1 = F.linear(x1, model[0].weight, model[0].bias)
    x2 = torch.tanh(y1)
    y2 = F.linear(x2, model[2].weight, model[2].bias)
    dy1, dy2 = torch.autograd.grad(F.cross_entropy(model[4](torch.tanh(y2)), batch[1]), (y1, y2))
    return x1, dy1, model[0].weight.detach(), x2.detach(), dy2, model[2].weight.detach()


def angle_by_hand(of, batch, quantize):
    """Degrees between gradients of all three weights, the first layers' products written out.

    quantize: of an operand's name (x, w, dy) and a matrix whose rows lie along the contraction.
    """

    def gradients(q):
        first, second, head = of.model[0], of.model[2], of.model[4]
        x1 = batch[0]
        x2 = torch.tanh(q("x", x1) @ q("w", first.weight.detach()).T + first.bias.detach())
        y2 = (q("x", x2) @ q("w", second.weight.detach()).T + second.bias.detach()).requires_grad_()
        found, dy2 = torch.autograd.grad(F.cross_entropy(head(torch.tanh(y2)), batch[1]), (head.weight, y2))
        dx2 = q("dy", dy2) @ q("w", second.weight.detach().T).T
        dy1 = dx2 * (1 - x2**2)
        of_first, of_second = q("dy", dy1.T) @ q("x", x1.T).T, q("dy", dy2.T) @ q("x", x2.detach().T).T
        return torch.cat([g.flatten().double() for g in (of_first, of_second, found)])

    full, rounded = gradients(lambda _, t: t), gradients(lambda name, t: quantize(name, t.contiguous()))
    cosine = (full @ rounded) / full.norm() / rounded.norm()
    return float(torch.rad2deg(torch.arccos(cosine)))
