"""The networks that come with the package, trained here by workloads/pretrain.py."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads import fashion_mnist
from workloads.mobilenet import mobilenetv2
from workloads.resnet import resnet18, resnet20
from workloads.weights import fill
from workloads.workload import Workload

FOLDER = Path(__file__).parent / "bundled"
ImageBatch = tuple[Tensor, Tensor]


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill the model from a safetensors file of float16 tensors; ValueError where names or shapes differ."""
    if not path.is_file():
        raise FileNotFoundError(f"the weights {path} are missing from this installation")
    fill(model, path, "the network")


def classification_loss(model: nn.Module, batch: ImageBatch) -> Tensor:
    """Mean cross-entropy of a classifier's logits."""
    return F.cross_entropy(model(batch[0]), batch[1])


def accuracy(model: nn.Module, batch: ImageBatch) -> float:
    """Share of the batch whose largest logit is the label's."""
    with torch.no_grad():
        return (model(batch[0]).argmax(1) == batch[1]).float().mean().item()


def _image_batches(part: str, batch_size: int) -> list[ImageBatch]:
    data = fashion_mnist.read_bundled()
    # Convolutions on the CPU run about twice as fast on channels-last tensors.
    images = fashion_mnist.to_input(data[f"{part}_images"]).contiguous(memory_format=torch.channels_last)
    labels = fashion_mnist.to_target(data[f"{part}_labels"])
    whole = len(images) // batch_size * batch_size
    return list(zip(images[:whole].split(batch_size), labels[:whole].split(batch_size), strict=True))


def _fashion_mnist_classifier(name: str, network: Callable[[], nn.Module]) -> Workload:
    model = network()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    load_weights(model, FOLDER / f"{name}.safetensors")
    train = partial(_image_batches, "train")
    return Workload(
        name,
        model,
        train,
        classification_loss,
        train=train,
        test=partial(_image_batches, "test"),
        metric=accuracy,
    )


BUNDLED: dict[str, Callable[[], Workload]] = {
    "resnet18": partial(_fashion_mnist_classifier, "resnet18", resnet18),
    "resnet20": partial(_fashion_mnist_classifier, "resnet20", resnet20),
    "mobilenetv2": partial(_fashion_mnist_classifier, "mobilenetv2", mobilenetv2),
}
