"""How each bundled network is trained: its data, its loss, its optimizer and what it is judged by."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from workloads.data import bible, fashion_mnist, scenes
from workloads.metrics import accuracy, classification_loss
from workloads.networks.detector import Detector, detection_loss, detection_precision
from workloads.networks.language import LSTM, Transformer, bits_per_character, language_loss, to_batch, windows
from workloads.networks.mobilenet import mobilenetv2
from workloads.networks.resnet import resnet18, resnet20
from workloads.workload import Batch

IMAGES, WINDOWS, SCENES = 128, 64, 64
"""In a mini-batch."""
HELD_OUT = 500
"""In a mini-batch of what is held out."""


@dataclass(frozen=True)
class Data:
    """steps: mini-batches in an epoch. epoch: makes them, drawing from a generator. metric: of a network, on what is
    held out."""

    steps: int
    epoch: Callable[[torch.Generator], Iterator[Batch]]
    metric: Callable[[nn.Module], float]


@dataclass(frozen=True)
class Pretraining:
    """network: a new one, its weights drawn from torch's generator. data: reads it. loss: of a mini-batch, also under
    autocast.

    optimizer: of a network, for a largest learning rate. epochs, rate: what is used unless told otherwise. measure:
    what the metric is called.
    """

    network: Callable[[], nn.Module]
    data: Callable[[], Data]
    loss: Callable[[nn.Module, Batch], Tensor]
    optimizer: Callable[[nn.Module, float], Optimizer]
    epochs: int
    rate: float
    measure: str


def _mean(metric: Callable[[nn.Module, Batch], float], test: list[Batch], model: nn.Module) -> float:
    """A metric of all examples, from its values of mini-batches, which may be of different sizes."""
    return sum(metric(model, batch) * len(batch[0]) for batch in test) / sum(len(batch[0]) for batch in test)


# Classifiers of Fashion-MNIST.


def _images() -> Data:
    data = fashion_mnist.read_full()
    images, labels = fashion_mnist.to_input(data["train_images"]), fashion_mnist.to_target(data["train_labels"])
    tests = fashion_mnist.to_input(data["test_images"]), fashion_mnist.to_target(data["test_labels"])
    test = list(zip(*(part.split(HELD_OUT) for part in tests), strict=True))
    steps = len(images) // IMAGES

    def epoch(generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            chosen = order[step * IMAGES : (step + 1) * IMAGES]
            x = images[chosen]
            flip = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
            yield torch.where(flip, x.flip(3), x).contiguous(memory_format=torch.channels_last), labels[chosen]

    return Data(steps, epoch, partial(_mean, accuracy, test))


def _channels_last(network: Callable[[], nn.Module]) -> nn.Module:
    return network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _sgd(model: nn.Module, rate: float, decay: float = 5e-4) -> Optimizer:
    # Depthwise filters are not decayed (A. Howard et al., "MobileNets", 2017, section 3).
    depthwise = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    groups = [[p for p in model.parameters() if (id(p) in depthwise) is kind] for kind in (False, True)]
    return torch.optim.SGD(
        [{"params": group, "weight_decay": 0.0 if k else decay} for k, group in enumerate(groups) if group],
        lr=rate,
        momentum=0.9,
        nesterov=True,
    )


# Language models.


def _text() -> Data:
    symbols = bible.to_symbols(bible.read_full())
    test = [to_batch(part) for part in windows(symbols[-bible.TEST :]).split(HELD_OUT)]
    train = symbols[: -bible.TEST]
    # One window less than there are, since an epoch begins anywhere within the first.
    steps = (len(windows(train)) - 1) // WINDOWS

    def epoch(generator: torch.Generator) -> Iterator[Batch]:
        shifted = windows(train[int(torch.randint(windows(train).shape[1] - 1, (), generator=generator)) :])
        order = torch.randperm(len(shifted), generator=generator)
        for step in range(steps):
            yield to_batch(shifted[order[step * WINDOWS : (step + 1) * WINDOWS]])

    return Data(steps, epoch, partial(_mean, bits_per_character, test))


def _transformer_loss(model: nn.Module, batch: Batch) -> Tensor:
    # Over so few characters, attention trains nearly twice as fast as plain products on a CPU.
    with sdpa_kernel(SDPBackend.MATH):
        return language_loss(model, batch)


def _adamw(model: nn.Module, rate: float) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)


# The detector.


def _scenes() -> Data:
    data = fashion_mnist.read_full()
    images, labels = data["train_images"], data["train_labels"]
    test = scenes.bundled_test()
    steps = len(images) // SCENES

    def epoch(generator: torch.Generator) -> Iterator[Batch]:
        for _ in range(steps):
            seed = int(torch.randint(1 << 62, (), generator=generator))
            yield scenes.compose(images, labels, SCENES, seed)

    return Data(steps, epoch, lambda model: detection_precision(model, test))


PRETRAININGS = {
    "resnet18": Pretraining(partial(_channels_last, resnet18), _images, classification_loss, _sgd, 8, 0.1, "accuracy"),
    "resnet20": Pretraining(partial(_channels_last, resnet20), _images, classification_loss, _sgd, 10, 0.1, "accuracy"),
    "mobilenetv2": Pretraining(
        partial(_channels_last, mobilenetv2),
        _images,
        classification_loss,
        partial(_sgd, decay=1e-3),
        8,
        0.5,
        "accuracy",
    ),
    "lstm": Pretraining(partial(LSTM, bible.SYMBOLS), _text, language_loss, _adamw, 4, 5e-3, "bits per character"),
    "transformer": Pretraining(
        partial(Transformer, bible.SYMBOLS), _text, _transformer_loss, _adamw, 3, 3e-3, "bits per character"
    ),
    "detector": Pretraining(
        partial(_channels_last, Detector), _scenes, detection_loss, _adamw, 3, 2e-3, "mAP at IoU 0.5"
    ),
}
