"""Cross-layer equalization and absorption of high biases: the same network in float32, with weights and activations
that quantize better.

Source: docs/definitions/calibration.md section 1, steps 2 and 3 (M. Nagel, M. van Baalen, T. Blankevoort, M. Welling,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from training.calibration.folded_layer import FoldedLayer
from training.calibration.network import RELU6, Capped, Link, Network

LEAST_SCALE, LARGEST_SCALE = 1e-4, 1e4
"""Of one step; a larger ratio is evened out over several sweeps."""

ENOUGH, SWEEPS = 1e-3, 20


@dataclass(frozen=True, eq=False)
class Chain:
    """Links that are equalized at once: one, or two where the layer in the middle is depthwise."""

    links: tuple[Link, ...]

    @property
    def name(self) -> str:
        """The layers in order."""
        return " -> ".join([link.first.name for link in self.links] + [self.links[-1].second.name])


def _equalizable(link: Link) -> bool:
    """Whether scaling the channels between two layers changes nothing but the weights."""
    second_ok = link.second.groups == 1 or link.second.depthwise
    first_ok = link.first.output_axis == 0 or link.first.groups == 1
    return link.exclusive and second_ok and first_ok


def chains(network: Network) -> list[Chain]:
    """What can be equalized: pairs through ReLU, ReLU6, leaky ReLU, pooling and flattening, and triples around
    depthwise layers.

    Nothing else may read what lies between: layers that a residual branch or concatenation reads are left out.
    """
    links = [link for link in network.links() if _equalizable(link)]
    found, used = [], set()
    for link in links:
        if link in used:
            continue
        following = next((other for other in links if other.first is link.second), None)
        if link.second.depthwise and following is not None and not following.second.depthwise:
            found.append(Chain((link, following)))
            used |= {link, following}
        else:
            found.append(Chain((link,)))
            used.add(link)
    return found


def _cap_channels(network: Network, link: Link) -> None:
    """Give a ReLU6 between two layers a cap a channel."""
    for k, node in enumerate(link.nodes):
        if network.kind(node) in RELU6:
            link.nodes[k] = network.replace_activation(node, f"{node.name}_capped", Capped(link.first.outputs, 6.0))


def _caps(network: Network, link: Link) -> list[Tensor]:
    return [network.submodule(node).cap for node in link.nodes if network.kind(node) == "Capped"]


def output_ranges(layer: FoldedLayer) -> Tensor:
    """The largest magnitude of the weights of each output channel."""
    return layer.weight.movedim(layer.output_axis, 0).reshape(layer.outputs, -1).abs().amax(1)


def input_ranges(layer: FoldedLayer, channels: int) -> Tensor:
    """The largest magnitude of the weights that read each of `channels` channels."""
    return layer.by_input(channels).abs().amax(1)


def _usable(scale: Tensor) -> Tensor:
    """1 in the place of zeros, infinities and NaN, which dead channels give; the others within bounds."""
    return torch.where(scale.isfinite() & (scale > 0), scale.clamp(LEAST_SCALE, LARGEST_SCALE), 1.0)


def _divide_outputs(network: Network, link: Link, scale: Tensor) -> None:
    """W[i] / s_i, b[i] / s_i, the folded statistics and the caps after it, in float64 rounded once."""
    layer = link.first
    layer.weight.copy_(layer.weight.double() / layer.per_output(scale))
    if layer.module.bias is not None:
        layer.module.bias.data.copy_(layer.module.bias.data.double() / scale)
    if layer.gamma is not None and layer.beta is not None:
        layer.gamma, layer.beta = (layer.gamma.double() / scale).float(), (layer.beta.double() / scale).float()
    for cap in _caps(network, link):
        cap.copy_(cap.double() / scale)


def _scales(chain: Chain) -> list[Tensor]:
    """What each link's channels are divided by, float64."""
    first = chain.links[0].first
    channels = first.outputs
    r1 = output_ranges(first).double()
    if len(chain.links) == 1:
        return [_usable((r1 / input_ranges(chain.links[0].second, channels).double()).sqrt())]
    r2 = output_ranges(chain.links[1].first).double()
    r3 = input_ranges(chain.links[1].second, channels).double()
    mean = (r1 * r2 * r3) ** (1 / 3)
    return [_usable(r1 / mean), _usable(mean / r3)]


@torch.no_grad()
def equalize(network: Network, given: list[Chain] | None = None) -> int:
    """Scale channels between layers so that the ranges of the weights on both sides become equal; the output stays the
    same up to float32 rounding.

    Sweeps over all chains (`chains`) until none changes by more than a thousandth, at most 20 times. A ReLU6 in between
    gets one cap a channel.

    Args:
        network: It is changed.
        given: The chains; None for all.

    Returns:
        The number of chains.
    """
    found = chains(network) if given is None else given
    for chain in found:
        for link in chain.links:
            _cap_channels(network, link)
    for _ in range(SWEEPS):
        largest = 0.0
        for chain in found:
            for link, scale in zip(chain.links, _scales(chain), strict=True):
                _divide_outputs(network, link, scale)
                link.second.scale_inputs(scale)
                largest = max(largest, scale.log().abs().max().item())
        if largest < ENOUGH:
            break
    return len(found)


@torch.no_grad()
def absorb(
    network: Network, *, least: Mapping[str, Tensor] | None = None, exact_only: bool = False
) -> dict[str, Tensor]:
    """Move what a layer's channels always exceed from its bias into the next layer's: c = max(0, beta - 3 |gamma|), all
    of beta without an activation. 0.135% of a normal channel lies below c.

    Args:
        network: It is changed.
        least: By name of a layer, the least value of each channel before the activation, from data; where it is there,
            c = max(0, least).
        exact_only: Leave out links whose second layer, or a pooling before it, reads zeros at borders, where those
            zeros would stand for c.

    Returns:
        c by name of the first layer, for those that changed.
    """
    absorbed = {}
    for link in network.links():
        first, second = link.first, link.second
        if not _equalizable(link) or (exact_only and (second.padded or link.pads)):
            continue
        if least is not None and first.name in least:
            amount = least[first.name].float().clamp(min=0)
        elif first.gamma is None or first.beta is None:
            continue
        elif link.activation == "none":
            amount = first.beta.clone()
        else:
            amount = (first.beta - 3 * first.gamma.abs()).clamp(min=0)
        if not amount.any():
            continue
        _cap_channels(network, link)
        for cap in _caps(network, link):
            amount = torch.minimum(amount, cap)
            cap.sub_(amount)
        first.add_bias(-amount)
        if first.beta is not None:
            first.beta = first.beta - amount
        second.add_bias(second.response(second.weight, amount))
        absorbed[first.name] = amount
    return absorbed
