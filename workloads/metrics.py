"""The loss of classifiers, and what they are judged by."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ImageBatch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) float32 and their labels (N,) int64."""


def classification_loss(model: nn.Module, batch: ImageBatch) -> Tensor:
    """Mean cross-entropy of a classifier's logits, in float32 under autocast too."""
    return F.cross_entropy(model(batch[0]).float(), batch[1])


def accuracy(model: nn.Module, batch: ImageBatch) -> float:
    """Share of the batch whose largest logit is the label's."""
    with torch.no_grad():
        return (model(batch[0]).argmax(1) == batch[1]).float().mean().item()
