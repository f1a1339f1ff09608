"""The reference table of docs/definitions/prediction.md section 2: angles of eight formats on a CIFAR-10 ResNet-20,
within 2%.

    python benchmarks/cifar10_resnet20.py WEIGHTS.pt IMAGES.zip

WEIGHTS is a state dict, IMAGES is CIFAR-10 as train/CLASS/NNNN.jpg. Prints the angles measured here beside those of an
independent implementation.
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from predictor import measure
from workloads import Workload
from workloads.bundled.networks import classification_loss
from workloads.data.cifar import read_cifar
from workloads.data.images import Preprocessing, Reader
from workloads.networks.resnet import resnet20

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMATS = ("INT8", "FP125", "FP134", "FP143", "FP152", "FP133", "FP123", "INT6")
EXPECTED = {
    "E": (3.779, 2.057, 1.044, 2.051, 4.862, 2.106, 6.758, 12.801),
    "A": (20.531, 12.944, 11.128, 20.712, 36.869, 19.559, 37.734, 57.819),
    "AE": (20.685, 13.081, 11.173, 20.784, 37.471, 19.624, 38.718, 57.717),
}
TOLERANCE = 0.02


def read_images(path: Path, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image number i is the (i // 10)-th file, in sorted order, of class i % 10 of train/."""
    images = read_cifar("cifar10", path).train
    by_class = [np.flatnonzero(images.labels == label) for label in range(10)]
    numbers = tuple(int(by_class[i % 10][i // 10]) for i in range(count))
    return Reader(images, Preprocessing(MEAN, DEVIATION), "cifar10").batch(numbers)


def cifar10_resnet20(weights: Path, images: Path, minibatches: int, batch_size: int = 128) -> Workload:
    """The workload of the reference table."""
    model = resnet20(channels=3)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=False)
    inputs, labels = read_images(images, minibatches * batch_size)
    batches = list(zip(inputs.split(batch_size), labels.split(batch_size), strict=True))
    return Workload("cifar10-resnet20", model.to(memory_format=torch.channels_last), batches, classification_loss)


def main(
    weights: Annotated[Path, typer.Argument(exists=True, help="state dict of the network")],
    images: Annotated[Path, typer.Argument(exists=True, help="CIFAR-10 as JPEG files in a zip archive")],
) -> None:
    """Measure the table and compare it."""
    found = measure(cifar10_resnet20(weights, images, 2), FORMATS, minibatches=2, scheme="current")
    worst = 0.0
    print(f"{'effect':6} {'format':6} {'measured':>9} {'expected':>9} {'ratio':>7}")
    for effect, row in EXPECTED.items():
        for format, expected in zip(FORMATS, row, strict=True):
            angle = found[(found.effect == effect) & (found.format == format)].angle.item()
            worst = max(worst, abs(angle / expected - 1))
            print(f"{effect:6} {format:6} {angle:9.3f} {expected:9.3f} {angle / expected:7.4f}")
    print(f"largest deviation {worst:.2%} ({'within' if worst <= TOLERANCE else 'outside'} {TOLERANCE:.0%})")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    typer.run(main)
