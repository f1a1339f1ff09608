"""The reference table of docs/prediction.md section 2: angles of eight formats on a CIFAR-10 ResNet-20, within 2%.

    python benchmarks/cifar10_resnet20.py WEIGHTS.pt IMAGES.zip

WEIGHTS is a state dict, IMAGES holds train/CLASS/NNNN.jpg. Prints the angles measured here beside those of an independent implementation.
"""

import io
import sys
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from predictor import measure
from workloads import Workload
from workloads.bundled import classification_loss
from workloads.resnet import resnet20

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
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("train/") and name.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        by_class = [[name for name in names if name.split("/")[1] == entry] for entry in classes]
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(by_class[i % 10][i // 10]))).convert("RGB")) for i in range(count)]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    images = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    return images.contiguous(memory_format=torch.channels_last), torch.arange(count) % 10


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
    found = measure(cifar10_resnet20(weights, images, 2), FORMATS, minibatches=2)
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
