"""A network of one's own: a small classifier. `python examples/mine.py` trained the weights beside it."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from workloads import Workload, load

WEIGHTS = Path(__file__).with_name("mine.pth")


def network():
    convolutions = nn.Conv2d(1, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU()
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(1152, 10))


def loss(model, batch):
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def net():
    model = network()
    model.load_state_dict(torch.load(WEIGHTS))
    data = load("resnet20")  # bundled images, in place of your data
    for_training = {"train": data.train, "test": data.test, "metric": data.metric}
    return Workload("mine", model, data.batches, loss, **for_training)


def train():
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for batch in load("resnet20").train(64)[:100]:
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    torch.save(model.state_dict(), WEIGHTS)


if __name__ == "__main__":
    train()
