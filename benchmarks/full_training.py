"""The long comparison: ResNet-18 of full width from scratch on whole data sets, full precision against FP134 and LOG4
weights.

    python benchmarks/full_training.py --output runs/full --device cuda --cifar10 IMAGES.zip --epochs 20

Data: Fashion-MNIST whole and, where IMAGES is given, CIFAR-10 as a zip archive of train/CLASS/NNNN.jpg and
test/CLASS/NNNN.jpg. Images are mirrored at random, CIFAR-10's also moved by up to four pixels. Arms: float32
throughout; FP134 for activations, errors and weight gradients with FP169 master weights, and FP134 or LOG4 weights,
with hysteresis or to nearest. All share recipe and seed. Every run is a folder of OUTPUT: finished ones are read, ended
ones go on from their checkpoint. Prints the last epoch's mean loss, the test accuracy, and the share of weights that
flip in a step.

    formats plot runs/full/cifar10-*4-* -o flips.png
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from cifar10_resnet20 import DEVIATION, MEAN
from PIL import Image
from torch import Tensor, nn

from predictor.device import on_device
from training import Result, train
from workloads import Workload
from workloads.bundled.networks import ImageBatch, accuracy, classification_loss
from workloads.data import fashion_mnist
from workloads.networks.resnet import resnet18

ARMS = {
    "float32": dict.fromkeys(("activation", "error", "weight", "gradient", "master"), "float32"),
    **{
        f"{weight}-{how}": {"weight": weight, "weight_rounding": how}
        for weight in ("FP134", "LOG4")
        for how in ("hysteresis", "nearest")
    },
}
BATCH, TEST_BATCH = 128, 250
SHIFT = 4


def cifar10(path: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32), normalized, and labels (N,) of a part, train or test; classes in alphabetical order,
    images mixed by a fixed seed."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(f"{part}/") and name.endswith(".jpg"))
        if not names:
            raise ValueError(f"{path} holds no {part}/CLASS/NNNN.jpg")
        # Mini-batches keep their images, so they must not be of one class.
        names = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names])
    classes = sorted({name.split("/")[1] for name in names})
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    images = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    return images, torch.tensor([classes.index(name.split("/")[1]) for name in names])


def moved(images: Tensor, shift: int) -> Tensor:
    """Each image mirrored or not, and moved by up to `shift` pixels, by torch's generator."""
    n, _, height, width = images.shape
    images = torch.where(torch.rand(n, 1, 1, 1, device=images.device) < 0.5, images.flip(3), images)
    rows, columns = (
        torch.randint(2 * shift + 1, (n, 1), device=images.device) + torch.arange(s, device=images.device)
        for s in (height, width)
    )
    wide = F.pad(images, (shift,) * 4).permute(0, 2, 3, 1)
    chosen = wide[torch.arange(n, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return chosen.permute(0, 3, 1, 2)  # channels last in memory


def workload(
    name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], shift: int, limit: int | None
) -> Workload:
    """ResNet-18 on images and labels."""

    def batches(data: tuple[Tensor, Tensor], size: int) -> list[ImageBatch]:
        images = data[0].contiguous(memory_format=torch.channels_last)
        whole = len(images) // size * size
        return list(zip(images[:whole].split(size), data[1][:whole].split(size), strict=True))[:limit]

    def loss(model: nn.Module, batch: ImageBatch) -> Tensor:
        return classification_loss(model, (moved(batch[0], shift), batch[1]))

    torch.manual_seed(0)
    model = resnet18(channels=train[0].shape[1])
    model.to(memory_format=torch.channels_last)
    return Workload(name, model, batches(train, BATCH), loss, test=batches(test, TEST_BATCH), metric=accuracy)


def workloads(cifar10_images: Path | None, limit: int | None) -> Iterator[Workload]:
    """The data sets, each read when it is its turn."""
    full = fashion_mnist.read_full()
    parts = [
        (fashion_mnist.to_input(full[f"{p}_images"]), fashion_mnist.to_target(full[f"{p}_labels"]))
        for p in ("train", "test")
    ]
    yield workload("fashion-mnist", *parts, shift=0, limit=limit)
    if cifar10_images is not None:
        yield workload(
            "cifar10", *(cifar10(cifar10_images, part) for part in ("train", "test")), shift=SHIFT, limit=limit
        )


def row(result: Result) -> str:
    """Loss, accuracy, flips and outcome."""
    loss = "-" if result.epochs.empty else f"{result.epochs.loss.iloc[-1]:.4f}"
    metric = "-" if result.metric is None else f"{result.metric:.4f}"
    return f"{loss:>8} {metric:>9} {result.steps.flip_rate.mean():9.5f}  {result.outcome} {result.reason}".rstrip()


def main(
    output: Annotated[Path, typer.Option(help="folder of the runs")],
    cifar10_images: Annotated[
        Path | None, typer.Option("--cifar10", exists=True, help="CIFAR-10 as JPEG files in a zip archive")
    ] = None,
    epochs: Annotated[int, typer.Option(help="passes over the training images")] = 20,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    limit: Annotated[int | None, typer.Option(help="mini-batches an epoch, and for testing; default: all")] = None,
    rate: Annotated[float, typer.Option(help="the largest learning rate")] = 0.1,
    seed: Annotated[int, typer.Option(help="decides weights, order and stochastic rounding")] = 0,
) -> None:
    """Train what is not trained yet, then print the table."""
    table = [f"{'data':14} {'arm':17} {'loss':>8} {'accuracy':>9} {'flips':>9}"]
    for chosen in workloads(cifar10_images, limit):
        chosen = on_device(chosen, device)
        for name, arm in ARMS.items():
            folder = output / f"{chosen.name}-{name}-{seed}"
            result = train(
                chosen, epochs=epochs, seed=seed, rate=rate, checkpoint_every=100, output=folder, resume=True, **arm
            )
            table.append(f"{chosen.name:14} {name:17} {row(result)}")
            print(table[-1], flush=True)
    print(
        f"\nResNet-18 from scratch, {epochs} epochs, batch {BATCH}, rate {rate}, seed {seed}, {device}, torch "
        f"{torch.__version__}"
    )
    print("\n".join(table))


if __name__ == "__main__":
    typer.run(main)
