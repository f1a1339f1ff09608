"""MobileNetV2 for small images.

Source: M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, "MobileNetV2: Inverted Residuals and Linear
Bottlenecks", CVPR 2018, sections 3 and 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4
"""Channels of a depthwise convolution for each of the bottleneck before it: fewer than the paper's 6, as it advises for
small networks (section 3.3)."""

STAGES = ((16, 1, 1), (24, 2, 1), (32, 2, 2), (64, 2, 1), (96, 1, 1))
"""Width, blocks and first stride of each stage; the first has no expansion."""

STEM, LAST = 16, 256


class InvertedResidual(nn.Module):
    """1 x 1 expansion, 3 x 3 depthwise, 1 x 1 projection without activation; a shortcut where shapes agree (section
    3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        inside = inputs * expansion
        self.expand: nn.Conv2d | None = None
        if expansion > 1:
            self.expand = nn.Conv2d(inputs, inside, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(inside)
        self.depthwise = nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.project = nn.Conv2d(inside, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.bn1(self.expand(x)))
        y = F.relu6(self.bn2(self.depthwise(y)))
        y = self.bn3(self.project(y))
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """A 3 x 3 stem, inverted residuals, a 1 x 1 convolution, mean, linear; images are halved twice, by the stem and by
    the third stage.

    Input (N, channels, H, W) float32, output (N, classes) float32.
    """

    def __init__(self, channels: int = 1, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        blocks, inputs = [], STEM
        for stage, (width, count, stride) in enumerate(STAGES):
            for block in range(count):
                blocks.append(InvertedResidual(inputs, width, 1 if block else stride, EXPANSION if stage else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(inputs, LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST)
        self.linear = nn.Linear(LAST, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu6(self.bn1(self.conv1(x))))
        x = F.relu6(self.bn2(self.conv2(x)))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.linear(x)


def mobilenetv2(channels: int = 1, classes: int = 10) -> MobileNetV2:
    """A small MobileNetV2 (16 to 96 channels, 0.15 M weights) with a stem for small images."""
    return MobileNetV2(channels, classes)
