"""A layer of a traced network: its weight, its channels, and what was folded into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from training.calibration.tracing import hooked


@dataclass(eq=False)
class FoldedLayer:
    """One convolution, transposed convolution or linear layer of the graph.

    Attributes:
        name: Of the module.
        node: Its (first) call.
        module: It.
        calls: How often it is called.
        shared: Whether something else of the network has its weight or bias too.
        gamma: Standard deviation of each output channel, float32, signed as the folded batch normalization has it; None
            where no normalization was folded.
        beta: Mean of each output channel, float32, or None.
    """

    name: str
    node: fx.Node
    module: Any
    calls: int
    shared: bool = False
    gamma: Tensor | None = None
    beta: Tensor | None = None

    @property
    def hooked(self) -> bool:
        """Whether hooks of the user's stand before or after the product."""
        return hooked(self.module)

    @property
    def alone(self) -> bool:
        """Whether nothing but one call uses its weight and bias, and nothing of the user's stands around that."""
        return self.calls == 1 and not self.shared and not self.hooked

    @property
    def weight(self) -> Tensor:
        """The weight's data."""
        data: Tensor = self.module.weight.data
        return data

    @property
    def output_axis(self) -> int:
        """The axis of the weight's output channels."""
        return 1 if isinstance(self.module, _ConvTransposeNd) else 0

    @property
    def channel_axis(self) -> int:
        """The axis of channels in the layer's output."""
        return -1 if isinstance(self.module, nn.Linear) else 1

    @property
    def outputs(self) -> int:
        """Output channels."""
        count: int = self.module.out_features if isinstance(self.module, nn.Linear) else self.module.out_channels
        return count

    @property
    def inputs(self) -> int:
        """Input channels."""
        count: int = self.module.in_features if isinstance(self.module, nn.Linear) else self.module.in_channels
        return count

    @property
    def groups(self) -> int:
        """Groups of channels that see only each other."""
        return int(getattr(self.module, "groups", 1))

    @property
    def depthwise(self) -> bool:
        """Whether every channel has a filter of its own, and only one."""
        return self.groups == self.inputs == self.outputs and self.groups > 1

    @property
    def padded(self) -> bool:
        """Whether zeros are read at borders."""
        if not isinstance(self.module, _ConvNd) or isinstance(self.module, _ConvTransposeNd):
            # A transposed convolution reads fewer products at its borders, as if it were padded.
            return isinstance(self.module, _ConvTransposeNd)
        padding = self.module.padding
        return padding == "same" if isinstance(padding, str) else any(int(p) for p in padding)

    def per_output(self, values: Tensor) -> Tensor:
        """One value an output channel, to be multiplied with the weight; for transposed convolutions of one group."""
        return values.reshape([-1 if d == self.output_axis else 1 for d in range(self.weight.ndim)])

    def by_input(self, channels: int) -> Tensor:
        """The weight as (channels, others): all that reads each of `channels` channels, which flattening may have
        spread over several inputs."""
        if self.depthwise or isinstance(self.module, _ConvTransposeNd):
            return self.weight.reshape(self.inputs, -1)
        moved = self.weight.movedim(1, 0)
        return moved.reshape(channels, -1)

    def scale_inputs(self, factors: Tensor) -> None:
        """Multiply what reads each channel by a factor (a vector)."""
        if self.depthwise or isinstance(self.module, _ConvTransposeNd):
            shape = [-1, *[1] * (self.weight.ndim - 1)]
            self.weight.mul_(factors.reshape(shape))
            return
        spread = factors.repeat_interleave(self.inputs // len(factors))
        self.weight.mul_(spread.reshape(1, -1, *[1] * (self.weight.ndim - 2)))

    def response(self, weight: Tensor, means: Tensor) -> Tensor:
        """What constant input channels `means` (a vector) give at each output channel away from borders, with a weight:
        float64."""
        weight, means = weight.double(), means.double()
        taps = weight.flatten(2).sum(2) if weight.ndim > 2 else weight
        if self.depthwise:
            return taps[:, 0] * means
        spread = means.repeat_interleave(self.inputs // len(means))
        return spread @ taps if isinstance(self.module, _ConvTransposeNd) else taps @ spread

    def add_bias(self, added: Tensor) -> None:
        """Add to the bias, which is made where there is none."""
        if self.module.bias is None:
            self.module.bias = nn.Parameter(
                torch.zeros(self.outputs, dtype=self.weight.dtype, device=self.weight.device)
            )
        # The sum in float64, since corrections are small.
        self.module.bias.data = (self.module.bias.data.double() + added.double()).to(self.weight.dtype)
