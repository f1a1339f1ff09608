"""Residual networks for small images.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, sections 3.3 and
4.2.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shortcut = Literal["projection", "pad"]
"""How a block changes shape: a 1 x 1 convolution (option B), or subsampling and zero channels (option A)."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.new_channels = outputs - inputs
        self.shortcut: nn.Module | None = None
        if shortcut == "projection" and (stride != 1 or inputs != outputs):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride != 1 or self.new_channels:
            before = self.new_channels // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))
        return F.relu(y + x)


class ResNet(nn.Module):
    """A 3 x 3 stem, one stage of basic blocks per width (every stage but the first halves the image), mean, linear.

    Input (N, channels, H, W) float32, output (N, classes) float32.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        blocks: int,
        shortcut: Shortcut,
        channels: int = 1,
        classes: int = 10,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = len(widths)
        inputs = widths[0]
        for stage, width in enumerate(widths):
            layer = []
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layer.append(BasicBlock(inputs, width, stride, shortcut))
                inputs = width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
        self.linear = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.linear(x)


def resnet18(channels: int = 1, classes: int = 10) -> ResNet:
    """ResNet-18 at full width (64-128-256-512 channels, 11.2 M weights) with a stem for small images."""
    return ResNet((64, 128, 256, 512), 2, "projection", channels, classes)


def resnet20(channels: int = 1, classes: int = 10) -> ResNet:
    """The CIFAR ResNet-20 (16-32-64 channels, 0.27 M weights) with parameter-free shortcuts (section 4.2)."""
    return ResNet((16, 32, 64), 3, "pad", channels, classes)
