"""The networks that come with the package, trained by benchmarks/pretrain/."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from workloads.data import bible, fashion_mnist, scenes
from workloads.metrics import ImageBatch, accuracy, classification_loss
from workloads.networks.detector import Detector, detection_loss, detection_precision
from workloads.networks.language import (
    LSTM,
    TextBatch,
    Transformer,
    bits_per_character,
    language_loss,
    to_batch,
    windows,
)
from workloads.networks.mobilenet import mobilenetv2
from workloads.networks.resnet import resnet18, resnet20
from workloads.weights import fill
from workloads.workload import Workload

FOLDER = Path(__file__).parent


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill the model from a safetensors file of float16 tensors; ValueError where names or shapes differ."""
    if not path.is_file():
        raise FileNotFoundError(f"the weights {path} are missing from this installation")
    fill(model, path, "the network")


def _whole(examples: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Examples in mini-batches of one size, without those that are left over; none where there are fewer than one
    mini-batch has."""
    count = len(examples) // batch_size
    return examples[: count * batch_size].split(batch_size) if count else ()


def _image_batches(part: str, batch_size: int) -> list[ImageBatch]:
    data = fashion_mnist.read_bundled()
    # Convolutions on the CPU run about twice as fast on channels-last tensors.
    images = fashion_mnist.to_input(data[f"{part}_images"]).contiguous(memory_format=torch.channels_last)
    labels = fashion_mnist.to_target(data[f"{part}_labels"])
    if part == "test":
        # A network is tested however large the mini-batches of its training are.
        batch_size = min(batch_size, len(images))
    return list(zip(_whole(images, batch_size), _whole(labels, batch_size), strict=True))


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


def _text_batches(part: str, batch_size: int) -> list[TextBatch]:
    symbols = bible.to_symbols(bible.read_bundled())
    own = windows(symbols[-bible.TEST :] if part == "test" else symbols[: -bible.TEST])
    if part == "test":
        batch_size = min(batch_size, len(own))  # as in _image_batches
    count = len(own) // batch_size
    # Neighbours in the text are of one kind; a mini-batch takes its windows from all over.
    return [to_batch(own[number : count * batch_size : count]) for number in range(count)]


def _language_model(name: str, network: Callable[[int], nn.Module]) -> Workload:
    model = network(bible.SYMBOLS)
    load_weights(model, FOLDER / f"{name}.safetensors")
    train = partial(_text_batches, "train")
    return Workload(
        name,
        model,
        train,
        language_loss,
        train=train,
        test=partial(_text_batches, "test"),
        metric=bits_per_character,
        lower_is_better=True,
    )


def _train_scenes(batch_size: int) -> list[scenes.Scenes]:
    parts = (_whole(part, batch_size) for part in scenes.bundled_train())
    return [scenes.Scenes(*batch) for batch in zip(*parts, strict=True)]


def _test_scenes(_: int) -> list[scenes.Scenes]:
    """One mini-batch, whatever is asked for: precision is of a whole set."""
    return [scenes.bundled_test()]


def _detector() -> Workload:
    model = Detector()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    load_weights(model, FOLDER / "detector.safetensors")
    return Workload(
        "detector",
        model,
        _train_scenes,
        detection_loss,
        train=_train_scenes,
        test=_test_scenes,
        metric=detection_precision,
    )


BUNDLED: dict[str, Callable[[], Workload]] = {
    "resnet18": partial(_fashion_mnist_classifier, "resnet18", resnet18),
    "resnet20": partial(_fashion_mnist_classifier, "resnet20", resnet20),
    "mobilenetv2": partial(_fashion_mnist_classifier, "mobilenetv2", mobilenetv2),
    "lstm": partial(_language_model, "lstm", LSTM),
    "transformer": partial(_language_model, "transformer", Transformer),
    "detector": _detector,
}
