"""Networks larger than the bundled ones, with random weights and random mini-batches: for time and memory alone."""

from typing import Any

import torch
import torch.nn.functional as F

from workloads import Workload

NAMES = ("resnet50", "gpt2")
IMAGE, CLASSES = 224, 1000


def of_images(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    """Cross entropy of classes."""
    return F.cross_entropy(model(batch[0]).logits, batch[1])


def of_text(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    """Cross entropy of the next tokens."""
    return F.cross_entropy(model(batch).logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())


def larger(name: str, examples: int, minibatches: int = 16, length: int = 256) -> Workload:
    """ResNet-50 at 224 x 224, or a Transformer of GPT-2-small's size on sequences of a length, both as the package
    transformers defines them by default.

    examples: of a mini-batch.
    """
    torch.manual_seed(0)
    if name == "resnet50":
        from transformers import ResNetConfig, ResNetForImageClassification

        images = [
            (torch.randn(examples, 3, IMAGE, IMAGE), torch.randint(0, CLASSES, (examples,))) for _ in range(minibatches)
        ]
        return Workload(name, ResNetForImageClassification(ResNetConfig(num_labels=CLASSES)), images, of_images)
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = GPT2Config()
    texts = [torch.randint(0, settings.vocab_size, (examples, length)) for _ in range(minibatches)]
    return Workload(name, GPT2LMHeadModel(settings), texts, of_text)
